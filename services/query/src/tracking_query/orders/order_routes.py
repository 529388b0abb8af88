"""One order, now or at a time, and the list of orders."""

import asyncio
from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import StreamingResponse

from tracking_query.api.context import Context
from tracking_query.api.negotiation import preferred_type, prefers_gzip
from tracking_query.api.page_cursors import KeysetPosition, encode_position
from tracking_query.api.parameters import (
    Parameters,
    Time,
    check_statuses,
    invalid_parameter,
    next_link,
    position_of,
)
from tracking_query.api.query_openapi import described_read
from tracking_query.horizon import AS_OF, as_of_header, reading_as_of
from tracking_query.orders import order_shapes
from tracking_query.orders.archived import ArchivedOrders
from tracking_query.orders.export_forms import EXPORTED_TYPES, NDJSON_MEDIA_TYPE, export_form, missing_types
from tracking_query.orders.exports import Exports, export_headers, record_export
from tracking_query.orders.list_query import ListParameters, ListQuery, Page, list_query, page_of
from tracking_query.orders.list_reader import read_page
from tracking_query.orders.search import Found, search
from tracking_query.orders.tables import CSV_MEDIA_TYPE
from tracking_shared.contracts.access import Grant, Principal, readable_orders, sees_customer
from tracking_shared.contracts.documents import OrderDocument, project
from tracking_shared.contracts.formats import ORDER_EVENTS, upcast_all
from tracking_shared.contracts.identifiers import is_identifier
from tracking_shared.contracts.messages import order_view
from tracking_shared.contracts.problems import ProblemError
from tracking_shared.contracts.timestamps import UNIX_EPOCH
from tracking_shared.http.callers import insufficient_scope
from tracking_shared.http.described_routes import Answer, Content
from tracking_shared.http.http_limits import within
from tracking_shared.http.order_answers import entitled, order_answer, order_by_id
from tracking_shared.http.service_app import JsonResponse, head_only
from tracking_shared.storage.database import Database
from tracking_shared.storage.embedded_database import index_stages, match_stages
from tracking_shared.storage.reads import bounded_read

JSON_MEDIA_TYPE = "application/json"

_VARY = {"Vary": "Accept, Accept-Encoding"}


LIST_DESCRIPTION = (
    "As `application/json` in pages: go on with `cursor` = the `next_cursor` of the answer, or follow its"
    " `Link`. As `text/csv` or `application/x-ndjson` (header `Accept`) the whole list as it stands at one"
    " moment, without `limit` and `cursor`; with `Accept-Encoding: gzip` compressed. A file that cannot be"
    " finished is cut off together with its connection. In CSV, a text that a spreadsheet would take for a"
    " formula has an apostrophe in front, and `metadata` is JSON; with `bom=true` it begins with the byte"
    " order mark by which Excel knows UTF-8. As `application/vnd.apache.parquet`, where the extra `parquet`"
    " of the package is installed, the columns of the CSV in types of their own."
    "\n\nA list with `created_*`, `updated_*` or `closed_*`, and every file, says `as_of`: nothing recorded"
    " before it can still appear. All pages of a list say that of the first one. Who goes on with"
    " `updated_from` or `created_from` = the `as_of` of the last list misses nothing; what was recorded at"
    " `as_of` or later may be in the list already, and comes again."
    "\n\nArchived orders are in no list and no file."
)


class OrderParameters(Parameters):
    """The parameters of `GET /v1/orders/{order_id}`."""

    at: Time | None = None
    """The order as it stood then: after the changes recorded up to this time."""


def add_routes(app: FastAPI, context: Context, archived: ArchivedOrders) -> None:
    """Adds `GET /v1/orders/{order_id}` and `GET /v1/orders`."""
    exports = Exports(context.database)
    missing = missing_types()

    @app.get(
        "/v1/orders/{order_id}",
        tags=["orders"],
        summary="An order, as it stands or as it stood at a time",
        description=(
            "An archived order has `archived`: true, if the service has the archive. Lists, reports and the"
            " log do not contain archived orders."
        ),
    )
    @described_read(
        Answer(200, "The order", [Content(order_shapes.ReadOrder, order_shapes.ORDER)], always=["ETag"]),
        Answer(304, "It is as the caller has it", always=["ETag"]),
        problems=["order-not-found", "precondition-failed", "archive-unavailable"],
        headers=["If-Match", "If-None-Match"],
    )
    async def get_order(
        request: Request,
        order_id: str,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[OrderParameters, Query()],
    ) -> Response:
        found = await _order(context.database, order_id, parameters.at)
        newest = None if found else await archived.newest(order_id, principal, parameters.at)
        if not found and not newest:  # it may have been restored in between
            found = await _order(context.database, order_id, parameters.at)
        order = entitled(project(newest) if newest else found, order_id, principal)
        shown = order_view(order, context.workflow, with_customer=sees_customer(principal.grant))
        view = {**shown, "archived": True} if newest else shown
        return order_answer(request, orjson.dumps(view), order["version"])

    @app.get(
        "/v1/orders",
        tags=["orders"],
        summary="Orders by status, merchant, customer and time",
        description=LIST_DESCRIPTION,
    )
    @described_read(
        Answer(
            200,
            "A page of orders, or all of them as a file",
            [Content(order_shapes.OrderPage, order_shapes.PAGE), *map(_file, EXPORTED_TYPES)],
            always=["Vary"],
            sometimes=["As-Of", "Link", "Content-Disposition", "Content-Encoding"],
        ),
        problems=["invalid-cursor", "not-acceptable", "too-many-requests"],
        headers=["Accept-Encoding"],
    )
    async def list_orders(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[ListParameters, Query()],
    ) -> Response:
        media_type = _media_type(request, missing)
        if parameters.bom and media_type != CSV_MEDIA_TYPE:
            raise invalid_parameter("bom", "is for text/csv; this media type has no byte order mark")
        _check_filter(context, principal.grant, parameters)
        if media_type == JSON_MEDIA_TYPE:
            page, found = await _page(context, principal.grant, parameters)
            return _list_answer(request, context, principal.grant, parameters, page, found=found)
        query = _export_query(principal.grant, parameters)
        with_customer = sees_customer(principal.grant)
        form = await asyncio.to_thread(
            export_form,
            media_type,
            context.workflow,
            with_customer=with_customer,
            with_bom=parameters.bom,
        )
        gzip = prefers_gzip(_joined(request, "accept-encoding"))
        if head_only(request):
            async with reading_as_of(context.database) as as_of:
                return StreamingResponse(iter(()), headers=export_headers(form, as_of, gzip=gzip))
        await record_export(context.audit, principal, media_type, parameters)
        slot = within(context.limits.exports, principal)
        return await exports.answer(query, form, slot, gzip=gzip)


def _file(media_type: str) -> Content:
    samples = {CSV_MEDIA_TYPE: order_shapes.CSV, NDJSON_MEDIA_TYPE: order_shapes.NDJSON}
    if media_type in samples:
        return Content({"type": "string"}, samples[media_type], media_type)
    return Content({"contentMediaType": media_type}, None, media_type)


def _media_type(request: Request, missing: Collection[str]) -> str:
    offered = [name for name in (JSON_MEDIA_TYPE, *EXPORTED_TYPES) if name not in missing]
    chosen = preferred_type(_joined(request, "accept"), offered)
    if chosen is None:
        reason = "".join(f" {name} needs a package that is not installed here." for name in missing)
        raise ProblemError("not-acceptable", f"There is {', '.join(offered)}.{reason}", offered=offered)
    return chosen


def _joined(request: Request, header: str) -> str | None:
    return ",".join(request.headers.getlist(header)) or None


async def _order(database: Database, order_id: str, at: datetime | None) -> OrderDocument | None:
    """The order as it stands, or as it stood then, if the database has it."""
    if not is_identifier(order_id):
        return None
    if at is not None:
        return await _order_at(database, order_id, at)
    with bounded_read():
        return await order_by_id(database, order_id)


async def _order_at(database: Database, order_id: str, at: datetime) -> OrderDocument | None:
    conditions = {"order_id": order_id, "recorded_at": {"$lte": at}}
    pipeline: list[dict[str, Any]] = [
        *match_stages(index_stages(conditions, "order_id")),
        {"$sort": {"version": -1}},
        {"$limit": 1},
    ]
    with bounded_read():
        events = await (await database.order_events.aggregate(pipeline)).to_list()
        events = upcast_all(ORDER_EVENTS, events)
    return project(events[0]) if events else None


def _check_filter(context: Context, grant: Grant, parameters: ListParameters) -> None:
    check_statuses(parameters.status, context.workflow)
    if parameters.customer_ref is not None and not sees_customer(grant):
        detail = "The token does not allow to look for a customer."
        raise ProblemError.of(insufficient_scope(detail, "orders:read"))


async def _page(context: Context, grant: Grant, parameters: ListParameters) -> tuple[Page, Found | None]:
    after = position_of(
        parameters.cursor, parameters.binding, context.cursor_key, "a list with this filter and sort"
    )
    readable = readable_orders(grant, parameters.merchant_id or None)
    found = None
    if parameters.q is not None:
        found = await search(context.database, parameters.q, readable, grant)
        readable = readable.only(found.order_ids)
    page = await _listed(context, parameters, list_query(parameters, readable, after), after)
    return page, found


async def _listed(
    context: Context, parameters: ListParameters, query: ListQuery, after: KeysetPosition | None
) -> Page:
    if not parameters.is_by_time:
        return page_of(await read_page(context.database, query, parameters.limit + 1), parameters)
    async with reading_as_of(context.database) as horizon:
        found = await read_page(context.database, query, parameters.limit + 1)
    if after is not None:  # without a horizon in its cursor, the page before was of an earlier release
        horizon = min(after.as_of or UNIX_EPOCH, horizon)
    return page_of(found, parameters, horizon)


def _export_query(grant: Grant, parameters: ListParameters) -> ListQuery:
    if parameters.q is not None:
        raise invalid_parameter("q", "is for pages; this media type holds a whole list")
    for name in ("limit", "cursor"):
        if name in parameters.model_fields_set:
            raise invalid_parameter(name, "is for pages; this media type always holds the whole list")
    return list_query(parameters, readable_orders(grant, parameters.merchant_id or None))


def _list_answer(
    request: Request,
    context: Context,
    grant: Grant,
    parameters: ListParameters,
    page: Page,
    *,
    found: Found | None,
) -> Response:
    with_customer = sees_customer(grant)
    items = [order_view(order, context.workflow, with_customer=with_customer) for order in page.orders]
    document: dict[str, Any] = {"items": items, "next_cursor": None}
    headers = _VARY | as_of_header(page.as_of)
    if found is not None:
        document["search"] = {"complete": found.is_complete, "behind": found.behind}
    if page.as_of is not None:
        document["as_of"] = headers[AS_OF]
    if page.next_position is not None:
        cursor = encode_position(page.next_position, parameters.binding, context.cursor_key)
        document["next_cursor"] = cursor
        headers["Link"] = next_link(request, cursor)
    return JsonResponse(document, headers=headers)
