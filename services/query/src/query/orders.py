"""One order, now or at a time, and the list of orders."""

import asyncio
from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from query.audit import record_export
from query.context import Context
from query.csv_text import CSV_MEDIA_TYPE
from query.export_forms import EXPORTED_TYPES, export_form, missing_types
from query.exports import Exports, export_headers
from query.horizon import AS_OF, as_of_header, reading_as_of
from query.list_cursors import Place, decode_place, encode_place
from query.list_reader import read_page
from query.listing import ListParameters, ListQuery, Page, list_query, page_of
from query.negotiation import preferred_type, prefers_gzip
from query.paging import next_link, refuse_cursor
from query.parameters import Parameters, Time, check_statuses, invalid_parameter
from query.reach import narrow, only
from query.search import Found, search
from shared.access import Grant, Principal, sees_customer
from shared.bounded_reads import bounded_read
from shared.challenges import insufficient_scope
from shared.cursors import InvalidCursor
from shared.database import Database
from shared.documents import OrderDocument, project
from shared.edges import within
from shared.http import JsonResponse, head_only
from shared.identifiers import is_identifier
from shared.order_reads import entitled, order_answer
from shared.problems import ProblemError
from shared.timestamps import UNIX_EPOCH
from shared.views import order_view

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
    "\n\nA list with `created_*` or `updated_*`, and every file, says `as_of`: nothing recorded before it can"
    " still appear. All pages of a list say that of the first one. Who goes on with `updated_from` or"
    " `created_from` = the `as_of` of the last list misses nothing; what was recorded at `as_of` or later may"
    " be in the list already, and comes again."
)


class OrderParameters(Parameters):
    """The parameters of `GET /v1/orders/{order_id}`."""

    at: Time | None = None


def routes(context: Context) -> APIRouter:
    """`GET /v1/orders/{order_id}` and `GET /v1/orders`."""
    router = APIRouter(tags=["orders"])
    exports = Exports(context.database)
    missing = missing_types()

    @router.get(
        "/orders/{order_id}",
        summary="An order, as it stands or as it stood at a time",
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
        return order_answer(request, orjson.dumps(view), order["version"])

    @router.get(
        "/orders",
        summary="Orders by status, merchant, customer and time",
        description=LIST_DESCRIPTION,
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

    return router


def _media_type(request: Request, missing: Collection[str]) -> str:
    offered = [name for name in (JSON_MEDIA_TYPE, *EXPORTED_TYPES) if name not in missing]
    chosen = preferred_type(_joined(request, "accept"), offered)
    if chosen is None:
        reason = "".join(f" {name} needs a package that is not installed here." for name in missing)
        raise ProblemError("not-acceptable", f"There is {', '.join(offered)}.{reason}", offered=offered)
    return chosen


def _joined(request: Request, header: str) -> str | None:
    return ",".join(request.headers.getlist(header)) or None


async def _order_at(database: Database, order_id: str, at: datetime) -> OrderDocument | None:
    if not is_identifier(order_id):
        return None
    # Two stages: with both conditions in one, the embedded database scans the whole collection.
    pipeline: list[dict[str, Any]] = [
        {"$match": {"order_id": order_id}},
        {"$match": {"recorded_at": {"$lte": at}}},
        {"$sort": {"version": -1}},
        {"$limit": 1},
    ]
    with bounded_read():
        events = await (await database.order_events.aggregate(pipeline)).to_list()
    return project(events[0]) if events else None


def _check_filter(context: Context, grant: Grant, parameters: ListParameters) -> None:
    check_statuses(parameters.status, context.workflow)
    if parameters.customer_ref is not None and not sees_customer(grant):
        detail = "The token does not allow to look for a customer."
        raise ProblemError.of(insufficient_scope(detail, "orders:read"))


async def _page(context: Context, grant: Grant, parameters: ListParameters) -> tuple[Page, Found | None]:
    after = _place(context, parameters)
    reach = narrow(grant, parameters.merchant_id, ())
    found = None
    if parameters.q is not None:
        found = await search(context.database, parameters.q, reach, grant)
        reach = only(reach, found.order_ids)
    page = await _listed(context, parameters, list_query(parameters, reach, after), after)
    return page, found


async def _listed(
    context: Context, parameters: ListParameters, query: ListQuery, after: Place | None
) -> Page:
    if not parameters.is_by_time:
        return page_of(await read_page(context.database, query, parameters.limit + 1), parameters)
    async with reading_as_of(context.database) as horizon:
        found = await read_page(context.database, query, parameters.limit + 1)
    if after is not None:  # without a horizon in its cursor, the page before was of an earlier release
        horizon = min(after.as_of or UNIX_EPOCH, horizon)
    return page_of(found, parameters, horizon)


def _place(context: Context, parameters: ListParameters) -> Place | None:
    if parameters.cursor is None:
        return None
    try:
        return decode_place(parameters.cursor, parameters.binding, context.cursor_key)
    except InvalidCursor:
        raise refuse_cursor("a list with this filter and sort") from None


def _export_query(grant: Grant, parameters: ListParameters) -> ListQuery:
    if parameters.q is not None:
        raise invalid_parameter("q", "is for pages; this media type holds a whole list")
    for name in ("limit", "cursor"):
        if name in parameters.model_fields_set:
            raise invalid_parameter(name, "is for pages; this media type always holds the whole list")
    return list_query(parameters, narrow(grant, parameters.merchant_id, ()))


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
    if page.next_place is not None:
        cursor = encode_place(page.next_place, parameters.binding, context.cursor_key)
        document["next_cursor"] = cursor
        headers["Link"] = next_link(request, cursor)
    return JsonResponse(document, headers=headers)
