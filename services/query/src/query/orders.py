"""One order, now or at a time, and the list of orders."""

import hashlib
import re
from typing import Annotated, Any
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from query.context import Context, entitled
from query.list_cursors import decode_place, encode_place
from query.listing import ListParameters, Page, list_pipeline, page_of
from query.openapi import answers
from query.parameters import Parameters, check_statuses
from query.reach import narrow
from shared.access import Grant, Principal, sees_customer
from shared.cursors import InvalidCursor
from shared.database import Database, driver_errors
from shared.documents import OrderDocument, project
from shared.http import JsonResponse
from shared.identifiers import is_identifier
from shared.problems import ProblemError
from shared.timestamps import Timestamp
from shared.views import order_view

_ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')


class OrderParameters(Parameters):
    """The parameters of `GET /v1/orders/{order_id}`."""

    at: Timestamp | None = None


def routes(context: Context) -> APIRouter:
    """`GET /v1/orders/{order_id}` and `GET /v1/orders`."""
    router = APIRouter(tags=["orders"])

    @router.get(
        "/orders/{order_id}",
        summary="An order, as it stands or as it stood at a time",
        responses=answers("The order", "order-not-found") | {304: {"description": "It has not changed"}},
    )
    async def get_order(
        request: Request,
        order_id: str,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[OrderParameters, Query()],
    ) -> Response:
        if parameters.at is None:
            order = await context.order(order_id, principal)
        else:
            past = await _order_at(context.database, order_id, parameters.at)
            order = entitled(past, order_id, principal)
        view = order_view(order, context.workflow, with_customer=sees_customer(principal.grant))
        return _conditional(request, orjson.dumps(view), order["version"])

    @router.get(
        "/orders",
        summary="Orders by status, merchant, customer and time",
        responses=answers("A page of orders", "invalid-cursor"),
    )
    async def list_orders(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[ListParameters, Query()],
    ) -> Response:
        page = await _list(context, principal.grant, parameters)
        return _list_answer(request, context, principal.grant, parameters, page)

    return router


async def _order_at(database: Database, order_id: str, at: Timestamp) -> OrderDocument | None:
    if not is_identifier(order_id):
        return None
    # Two stages: with both conditions in one, the embedded database scans the whole collection.
    pipeline: list[dict[str, Any]] = [
        {"$match": {"order_id": order_id}},
        {"$match": {"recorded_at": {"$lte": at}}},
        {"$sort": {"version": -1}},
        {"$limit": 1},
    ]
    with driver_errors():
        events = await (await database.order_events.aggregate(pipeline)).to_list()
    return project(events[0]) if events else None


def _conditional(request: Request, body: bytes, version: int) -> Response:
    # The digest stands for all that the answer depends on beside the version: who asks, the workflow.
    tag = f'"{version}-{hashlib.blake2b(body, digest_size=6).hexdigest()}"'
    asked = ",".join(request.headers.getlist("if-none-match"))
    if asked.strip() == "*" or tag in _ENTITY_TAG.findall(asked):
        return Response(status_code=304, headers={"ETag": tag})
    return Response(body, headers={"ETag": tag}, media_type="application/json")


async def _list(context: Context, grant: Grant, parameters: ListParameters) -> Page:
    check_statuses(parameters.status, context.workflow)
    if parameters.customer_ref is not None and not sees_customer(grant):
        raise ProblemError("forbidden", "The token does not allow to look for a customer.")
    try:
        after = (
            None
            if parameters.cursor is None
            else decode_place(parameters.cursor, parameters.binding, context.cursor_key)
        )
    except InvalidCursor:
        raise ProblemError(
            "invalid-cursor", "The cursor does not belong to a list with this filter and sort."
        ) from None
    pipeline = list_pipeline(parameters, narrow(grant, parameters.merchant_id, ()), after)
    with driver_errors():
        found = await (await context.database.orders.aggregate(pipeline)).to_list()
    return page_of(found, parameters)


def _list_answer(
    request: Request, context: Context, grant: Grant, parameters: ListParameters, page: Page
) -> Response:
    with_customer = sees_customer(grant)
    items = [order_view(order, context.workflow, with_customer=with_customer) for order in page.orders]
    if page.next_place is None:
        return JsonResponse({"items": items, "next_cursor": None})
    cursor = encode_place(page.next_place, parameters.binding, context.cursor_key)
    asked = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    link = f'<{request.url.path}?{urlencode([*asked, ("cursor", cursor)])}>; rel="next"'
    return JsonResponse({"items": items, "next_cursor": cursor}, headers={"Link": link})
