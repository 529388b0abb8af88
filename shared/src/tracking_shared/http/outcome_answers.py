"""Reads of the outcome of one update, for the callers that may see it, and the answer with it."""

from typing import Any

from fastapi import Response

from tracking_shared.contracts.access import Principal, sees_outcome
from tracking_shared.contracts.documents import UpdateDocument, applied_outcome, update_key
from tracking_shared.contracts.formats import HELD, ORDER_EVENTS, UPDATES, upcast, upcast_all
from tracking_shared.contracts.held import held_outcomes
from tracking_shared.contracts.identifiers import is_identifier
from tracking_shared.contracts.problems import CATALOGUE, Problem, ProblemError
from tracking_shared.contracts.timestamps import format_time
from tracking_shared.http.order_answers import order_by_id
from tracking_shared.http.service_app import JsonResponse
from tracking_shared.storage.database import Database, DatabaseUnavailable
from tracking_shared.storage.reads import bounded_read
from tracking_shared.telemetry.logs import trace_id_var

MAX_SENDERS = 64
"""As many updates of one order as may be held: 32, and 32 of strangers from before it existed."""


async def outcome_answer(database: Database, principal: Principal, order_id: str, update_id: str) -> Response:
    """The outcome of an update.

    Raises:
        ProblemError: `update-not-found`, also where it does not exist for the caller.
        DatabaseUnavailable: no answer, or not in time.
    """
    return outcome_response(await find_outcome(database, principal, order_id, update_id), principal)


def outcome_response(update: UpdateDocument | None, principal: Principal) -> Response:
    """The answer with this outcome.

    Raises:
        ProblemError: `update-not-found`: there is none, or it does not exist for the caller.
    """
    if update is None or not may_see(principal, update):
        raise ProblemError("update-not-found", "It is not known, or not decided yet.")
    return JsonResponse(outcome_view(update, trace_id_var.get()))


async def find_outcome(
    database: Database, principal: Principal, order_id: str, update_id: str
) -> UpdateDocument | None:
    """The outcome of an update, if the database has it. `may_see` is to be asked, too.

    Raises:
        DatabaseUnavailable: no answer, or not in time.
    """
    if not (is_identifier(order_id) and is_identifier(update_id)):
        return None
    key = update_key(order_id, update_id)
    with bounded_read():
        decided = await _find_decided(database, key)
        if decided is not None and may_see(principal, decided):
            return decided
        held = await _find_held(database, principal, order_id, update_id)
        # One that was held until a moment ago is decided by now.
        return held or await _find_decided(database, key)


async def _find_decided(database: Database, key: str) -> UpdateDocument | None:
    # The event last: one that takes the place of a refusal meanwhile is found.
    stored = await database.updates.find_one({"_id": key})
    event = await database.order_events.find_one({"update_key": key})
    if event:
        return applied_outcome(upcast(ORDER_EVENTS, event))
    return upcast(UPDATES, stored) if stored else None


async def _find_held(
    database: Database, principal: Principal, order_id: str, update_id: str
) -> UpdateDocument | None:
    # Several senders may have used the update id while there was no order.
    ids = {"$gt": f"{order_id}/{update_id}/", "$lt": f"{order_id}/{update_id}0"}
    held = await database.held.find({"_id": ids}).limit(MAX_SENDERS).to_list()
    if not held:
        return None
    order = await order_by_id(database, order_id)
    seen = [one for one in held_outcomes(upcast_all(HELD, held), order) if may_see(principal, one)]
    own = [one for one in seen if one["source"]["id"] == principal.subject]
    return next(iter([*own, *seen]), None)


def may_see(principal: Principal, update: UpdateDocument) -> bool:
    """True if the outcome of this update exists for the caller."""
    return sees_outcome(
        principal,
        source_id=update["source"]["id"],
        order_id=update["order_id"],
        merchant_id=update["merchant_id"],
    )


def outcome_view(update: UpdateDocument, trace_id: str | None) -> dict[str, Any]:
    """The outcome as callers see it: with the problem that the caller of the update was answered.
    `trace_id` is that of the request that is answered now.

    Raises:
        DatabaseUnavailable: the problem is one of a later release.
    """
    view: dict[str, Any] = {
        "update_id": update["update_id"],
        "order_id": update["order_id"],
        "outcome": update["outcome"],
        "version": update["version"],
    }
    problem = update["problem"]
    if problem is not None:
        if problem["slug"] not in CATALOGUE:
            raise DatabaseUnavailable(f"refused by a later release: {problem['slug']}")
        members = problem["members"] | {"update_id": update["update_id"]}
        instance = f"/v1/updates/{update['order_id']}/{update['update_id']}"
        view["problem"] = Problem(problem["slug"], problem["detail"], members).document(instance, trace_id)
    return view | {"recorded_at": format_time(update["recorded_at"])}
