"""What became of an update. query answers it, and so does ingest, at the address that it gives with a 202."""

from typing import Any

from fastapi import Response

from shared.access import Principal, may_ask_for_outcomes, sees_outcome
from shared.bounded_reads import bounded_read
from shared.challenges import insufficient_scope
from shared.database import Database
from shared.documents import UpdateDocument, update_key
from shared.http import JsonResponse
from shared.identifiers import is_identifier
from shared.logs import trace_id_var
from shared.problems import Problem, ProblemError
from shared.timestamps import format_time


def refuse_without_outcomes(principal: Principal) -> None:
    """Raises `ProblemError` (`forbidden`) if the caller may neither read nor have sent an update."""
    if not may_ask_for_outcomes(principal):
        detail = "The token has neither the scope orders:read nor orders:write."
        raise ProblemError.of(insufficient_scope(detail, "orders:read"))


async def outcome_answer(database: Database, principal: Principal, order_id: str, update_id: str) -> Response:
    """The outcome of an update.

    Raises:
        ProblemError: `update-not-found`, also where it does not exist for the caller.
        DatabaseUnavailable: no answer, or not in time.
    """
    update = await _find(database, order_id, update_id)
    if update is None or not may_see(principal, update):
        raise ProblemError("update-not-found", "It is not known, or not decided yet.")
    return JsonResponse(outcome_view(update, trace_id_var.get()))


async def _find(database: Database, order_id: str, update_id: str) -> UpdateDocument | None:
    if not (is_identifier(order_id) and is_identifier(update_id)):
        return None
    with bounded_read():
        return await database.updates.find_one({"_id": update_key(order_id, update_id)})


def may_see(principal: Principal, update: UpdateDocument) -> bool:
    """Whether the outcome of this update exists for the caller."""
    return sees_outcome(
        principal,
        source_id=update["source"]["id"],
        order_id=update["order_id"],
        merchant_id=update["merchant_id"],
    )


def outcome_view(update: UpdateDocument, trace_id: str | None) -> dict[str, Any]:
    """The outcome as callers see it: with the problem that the caller of the update was answered.
    `trace_id` is that of the request that is answered now.
    """
    view: dict[str, Any] = {
        "update_id": update["update_id"],
        "order_id": update["order_id"],
        "outcome": update["outcome"],
        "version": update["version"],
    }
    problem = update["problem"]
    if problem is not None:
        members = problem["members"] | {"update_id": update["update_id"]}
        instance = f"/v1/updates/{update['order_id']}/{update['update_id']}"
        view["problem"] = Problem(problem["slug"], problem["detail"], members).document(instance, trace_id)
    return view | {"recorded_at": format_time(update["recorded_at"])}
