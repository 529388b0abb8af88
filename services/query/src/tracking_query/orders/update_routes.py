"""Outcomes of updates: of one, and of all of an order; its history holds only those that were applied."""

from operator import itemgetter
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query, Response
from pydantic import Field

from tracking_query.api.context import Context
from tracking_query.api.parameters import Parameters, WholeNumber
from tracking_query.api.query_openapi import described_read
from tracking_query.orders.archived import ArchivedOrders, is_of_archived
from tracking_query.orders.order_shapes import ORDER_UPDATES, OUTCOME, OrderUpdates
from tracking_shared.contracts.access import Principal, reaches_all, sees_customer
from tracking_shared.contracts.documents import OrderDocument, UpdateDocument, applied_outcome
from tracking_shared.contracts.formats import HELD, ORDER_EVENTS, UPDATES, upcast_all
from tracking_shared.contracts.held import held_outcomes
from tracking_shared.contracts.messages import UpdateOutcome, source_view
from tracking_shared.http.described_routes import WRITE, Answer, Content
from tracking_shared.http.outcome_answers import (
    MAX_SENDERS,
    find_outcome,
    may_see,
    outcome_response,
    outcome_view,
)
from tracking_shared.http.service_app import JsonResponse
from tracking_shared.storage.database import Database
from tracking_shared.storage.embedded_database import match_stages
from tracking_shared.storage.reads import bounded_read
from tracking_shared.telemetry.logs import trace_id_var

MAX_OUTCOMES = 500


class OrderUpdatesParameters(Parameters):
    """The parameters of `GET /v1/orders/{order_id}/updates`."""

    outcome: Literal["applied", "rejected", "held"] | None = None
    """Only these outcomes."""
    limit: Annotated[WholeNumber, Field(ge=1, le=MAX_OUTCOMES)] = 100
    """The newest so many."""


class UpdateParameters(Parameters):
    """`GET /v1/updates/{order_id}/{update_id}` takes no parameters."""


def add_routes(app: FastAPI, context: Context, archived: ArchivedOrders) -> None:
    """Adds `GET /v1/updates/{order_id}/{update_id}` and `GET /v1/orders/{order_id}/updates`."""

    @app.get(
        "/v1/updates/{order_id}/{update_id}",
        tags=["updates"],
        summary="The outcome of an update",
        description=(
            "For its sender, also with `orders:write` alone, and for those with `orders:read` who reach its"
            " order."
        ),
    )
    @described_read(
        Answer(
            200,
            "It was applied, or rejected with this problem, or is held",
            [Content(UpdateOutcome, OUTCOME)],
        ),
        problems=["update-not-found", "archive-unavailable"],
        other_scope=WRITE,
    )
    async def get_update(
        order_id: str,
        update_id: str,
        principal: Annotated[Principal, Depends(context.sender_or_reader)],
        parameters: Annotated[UpdateParameters, Query()],
    ) -> Response:
        update = await find_outcome(context.database, principal, order_id, update_id)
        if update is None or is_of_archived(update):
            # An update that was applied before its order was archived, whatever a repeat was answered.
            update = await archived.applied(order_id, update_id, principal) or update
        return outcome_response(update, principal)

    @app.get(
        "/v1/orders/{order_id}/updates",
        tags=["updates"],
        summary="The outcomes of an order's updates, newest first",
        description=(
            "What was tried with an order, refusals and held updates included: the history holds only what"
            " was applied. Refusals are kept for 30 days. `more`: there are older ones beyond `limit`."
        ),
    )
    @described_read(
        Answer(200, "The newest outcomes", [Content(OrderUpdates, ORDER_UPDATES)]),
        problems=["order-not-found"],
    )
    async def get_order_updates(
        order_id: str,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[OrderUpdatesParameters, Query()],
    ) -> Response:
        order = await context.order(order_id, principal)
        found = await _read(context.database, order, principal, parameters)
        with_customer = sees_customer(principal.grant)
        items = [_item(update, with_customer=with_customer) for update in found[: parameters.limit]]
        more = len(found) > parameters.limit
        return JsonResponse({"order_id": order_id, "items": items, "more": more})


def _stages(
    order: OrderDocument, principal: Principal, parameters: OrderUpdatesParameters
) -> list[dict[str, Any]]:
    # No identifier holds a slash, and a zero follows it: exactly the keys of this order lie between.
    of_order = {"_id": {"$gt": f"{order['_id']}/", "$lt": f"{order['_id']}0"}}
    stages: list[dict[str, Any]] = [of_order]
    if parameters.outcome is not None:
        stages.append({"outcome": parameters.outcome})
    if not reaches_all(principal.grant):
        # What was sent before there was an order belongs to no merchant; `may_see` says the same of one.
        known = {"merchant_id": order["merchant_id"]}
        stages.append({"$or": [known, {"source.id": principal.subject}]})
    newest = {"$sort": {"recorded_at": -1, "_id": -1}}
    return [*match_stages(stages), newest, {"$limit": parameters.limit + 1}]


async def _read(
    database: Database, order: OrderDocument, principal: Principal, parameters: OrderUpdatesParameters
) -> list[UpdateDocument]:
    """The newest outcomes, one more than are asked for if there are more."""
    with bounded_read():
        # Held ones first and events last: one that is decided meanwhile is found.
        held = await database.held.find({"order_id": order["_id"]}).limit(MAX_SENDERS).to_list()
        waiting = [one for one in held_outcomes(upcast_all(HELD, held), order) if may_see(principal, one)]
        stages = _stages(order, principal, parameters)
        stored: list[UpdateDocument] = await (await database.updates.aggregate(stages)).to_list()
        # By numbers: versions have no gaps, and the database need not sort.
        newest = {"order_id": order["_id"], "version": {"$gt": order["version"] - parameters.limit - 1}}
        events = upcast_all(ORDER_EVENTS, await database.order_events.find(newest).to_list())
        stored = upcast_all(UPDATES, stored)
    made = [applied_outcome(event) for event in events if "update_key" in event]
    found = {outcome["_id"]: outcome for outcome in [*waiting, *stored, *made]}
    wanted = [one for one in found.values() if parameters.outcome in (None, one["outcome"])]
    wanted.sort(key=itemgetter("recorded_at", "_id"), reverse=True)
    return wanted[: parameters.limit + 1]


def _item(update: UpdateDocument, *, with_customer: bool) -> dict[str, Any]:
    source = source_view(update["source"], with_customer=with_customer)
    asked: dict[str, Any] = {"requested_status": update["requested_status"], "source": source}
    if "kind" in update:
        asked["kind"] = update["kind"]
    return outcome_view(update, trace_id_var.get()) | asked
