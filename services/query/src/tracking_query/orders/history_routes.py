"""The history of an order: every change that was applied to it, oldest first."""

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from pydantic import Field

from tracking_query.api.context import Context
from tracking_query.api.page_cursors import seal, unseal
from tracking_query.api.parameters import Parameters, WholeNumber, next_link, refuse_cursor
from tracking_query.api.query_openapi import described_read
from tracking_query.orders.archived import ArchivedOrders
from tracking_query.orders.order_shapes import HISTORY, History
from tracking_shared.contracts.access import Principal, sees_customer
from tracking_shared.contracts.cursors import InvalidCursor
from tracking_shared.contracts.documents import EventDocument, project
from tracking_shared.contracts.formats import ORDER_EVENTS, upcast_all
from tracking_shared.contracts.identifiers import is_identifier
from tracking_shared.contracts.messages import history_item
from tracking_shared.http.described_routes import Answer, Content
from tracking_shared.http.order_answers import entitled
from tracking_shared.http.service_app import JsonResponse
from tracking_shared.storage.database import Database
from tracking_shared.storage.reads import bounded_read

MAX_VERSIONS = 500
"""Versions of one answer. Real orders have ten; one that reports each minute has them in a shift."""


class HistoryParameters(Parameters):
    """The page of `GET /v1/orders/{order_id}/history`."""

    limit: Annotated[WholeNumber, Field(ge=1, le=MAX_VERSIONS)] = MAX_VERSIONS
    """At most so many on a page."""
    cursor: str | None = None
    """The `next_cursor` of the page before, for the same request."""


def add_routes(app: FastAPI, context: Context, archived: ArchivedOrders) -> None:
    """Adds `GET /v1/orders/{order_id}/history`."""

    @app.get(
        "/v1/orders/{order_id}/history",
        tags=["orders"],
        summary="Every change of an order, oldest first",
        description=(
            f"Up to {MAX_VERSIONS} changes come at once. Where more follow, the answer has a `next_cursor`:"
            " go on with `cursor` = it, or follow the `Link`. The last page has none. That of an archived"
            " order has `archived`: true."
        ),
    )
    @described_read(
        Answer(200, "The history, or a page of it", [Content(History, HISTORY)], sometimes=["Link"]),
        problems=["order-not-found", "invalid-cursor", "archive-unavailable"],
    )
    async def get_history(
        request: Request,
        order_id: str,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[HistoryParameters, Query()],
    ) -> Response:
        after = _version(context, order_id, parameters.cursor)
        limit, is_archived = parameters.limit, False
        events = await _read(context.database, order_id, after, limit)
        if not events:
            from_archive = await archived.events(order_id, principal, after=after, limit=limit + 1)
            # It may have been restored in between.
            is_archived = from_archive is not None
            events = from_archive or await _read(context.database, order_id, after, limit)
        # Any event shows whether the order exists for the caller; behind a cursor of ours there is one.
        entitled(project(events[0]) if events else None, order_id, principal)
        items = [history_item(event, with_customer=sees_customer(principal.grant)) for event in events]
        return _answer(context, request, order_id, items, limit, is_archived=is_archived)


async def _read(database: Database, order_id: str, after: int, limit: int) -> list[EventDocument]:
    # One more than the page takes. By numbers: versions have no gaps, and the database need not sort.
    if not is_identifier(order_id):
        return []
    versions = {"$gt": after, "$lte": after + limit + 1}
    with bounded_read():
        events = await database.order_events.find({"order_id": order_id, "version": versions}).to_list()
        events = upcast_all(ORDER_EVENTS, events)
    return sorted(events, key=lambda event: event["version"])


def _answer(
    context: Context,
    request: Request,
    order_id: str,
    found: list[dict[str, Any]],
    limit: int,
    *,
    is_archived: bool,
) -> Response:
    page = found[:limit]
    answer: dict[str, Any] = {"order_id": order_id, "items": page}
    if is_archived:
        answer["archived"] = True
    if len(found) <= limit:
        return JsonResponse(answer)
    cursor = seal(str(page[-1]["version"]).encode(), _binding(order_id), context.cursor_key)
    return JsonResponse(answer | {"next_cursor": cursor}, headers={"Link": next_link(request, cursor)})


def _version(context: Context, order_id: str, cursor: str | None) -> int:
    """The last version that the caller has seen; 0 for none."""
    if cursor is None:
        return 0
    try:
        return int(unseal(cursor, _binding(order_id), context.cursor_key))
    except InvalidCursor:
        raise refuse_cursor("the history of this order") from None


def _binding(order_id: str) -> bytes:
    return f"history/{order_id}".encode()
