"""What became of an update."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from query.context import Context
from query.limits import bounded_read
from query.parameters import Parameters
from shared.access import Principal, sees_outcome
from shared.database import Database
from shared.documents import UpdateDocument, update_key
from shared.http import JsonResponse
from shared.identifiers import is_identifier
from shared.logs import trace_id_var
from shared.problems import Problem, ProblemError
from shared.timestamps import format_time


class UpdateParameters(Parameters):
    """`GET /v1/updates/{order_id}/{update_id}` has none."""


def routes(context: Context) -> APIRouter:
    """`GET /v1/updates/{order_id}/{update_id}`."""
    router = APIRouter(tags=["updates"])

    @router.get(
        "/updates/{order_id}/{update_id}",
        summary="The outcome of an update",
        description=(
            "For its sender, also with `orders:write` alone, and for those with `orders:read` who reach its"
            " order."
        ),
    )
    async def get_update(
        order_id: str,
        update_id: str,
        principal: Annotated[Principal, Depends(context.sender_or_reader)],
        parameters: Annotated[UpdateParameters, Query()],
    ) -> Response:
        update = await _find(context.database, order_id, update_id)
        if update is None or not may_see(principal, update):
            raise ProblemError("update-not-found", "It is not known, or not decided yet.")
        return JsonResponse(outcome_view(update, trace_id_var.get()))

    return router


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
