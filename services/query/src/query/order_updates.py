"""What became of the updates of one order: beside its history, which holds only what was applied."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field

from query.context import Context
from query.parameters import Parameters, WholeNumber
from shared.access import Principal, reaches_all, sees_customer
from shared.bounded_reads import bounded_read
from shared.database import Database
from shared.documents import OrderDocument, UpdateDocument
from shared.http import JsonResponse
from shared.logs import trace_id_var
from shared.outcome_reads import outcome_view
from shared.views import source_view

MAX_OUTCOMES = 500


class OrderUpdatesParameters(Parameters):
    """The parameters of `GET /v1/orders/{order_id}/updates`."""

    outcome: Annotated[Literal["applied", "rejected"] | None, Field(description="Only these outcomes.")] = (
        None
    )
    limit: Annotated[WholeNumber, Field(ge=1, le=MAX_OUTCOMES, description="The newest so many.")] = 100


def routes(context: Context) -> APIRouter:
    """`GET /v1/orders/{order_id}/updates`."""
    router = APIRouter(tags=["updates"])

    @router.get(
        "/orders/{order_id}/updates",
        summary="The outcomes of an order's updates, newest first",
        description=(
            "What was tried with an order, refusals included: the history holds only what was applied."
            " Outcomes are kept for 30 days. `more`: there are older ones beyond `limit`."
        ),
    )
    async def get_order_updates(
        order_id: str,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[OrderUpdatesParameters, Query()],
    ) -> Response:
        order = await context.order(order_id, principal)
        stages = _stages(order, principal, parameters)
        found = await _read(context.database, stages)
        with_customer = sees_customer(principal.grant)
        items = [_item(update, with_customer=with_customer) for update in found[: parameters.limit]]
        more = len(found) > parameters.limit
        return JsonResponse({"order_id": order_id, "items": items, "more": more})

    return router


def _stages(
    order: OrderDocument, principal: Principal, parameters: OrderUpdatesParameters
) -> list[dict[str, Any]]:
    # No identifier holds a slash, and a zero follows it: exactly the keys of this order lie between.
    of_order = {"_id": {"$gt": f"{order['_id']}/", "$lt": f"{order['_id']}0"}}
    stages: list[dict[str, Any]] = [{"$match": of_order}]
    if parameters.outcome is not None:
        stages.append({"$match": {"outcome": parameters.outcome}})
    if not reaches_all(principal.grant):
        # What was sent before there was an order belongs to no merchant; `may_see` says the same of one.
        known = {"merchant_id": order["merchant_id"]}
        stages.append({"$match": {"$or": [known, {"source.id": principal.subject}]}})
    newest = {"$sort": {"recorded_at": -1, "_id": -1}}
    return [*stages, newest, {"$limit": parameters.limit + 1}]


async def _read(database: Database, stages: list[dict[str, Any]]) -> list[UpdateDocument]:
    with bounded_read():
        found: list[UpdateDocument] = await (await database.updates.aggregate(stages)).to_list()
    return found


def _item(update: UpdateDocument, *, with_customer: bool) -> dict[str, Any]:
    source = source_view(update["source"], with_customer=with_customer)
    asked = {"requested_status": update["requested_status"], "source": source}
    return outcome_view(update, trace_id_var.get()) | asked
