"""The event log: every change of every order, readable from any position."""

import asyncio
from collections.abc import Coroutine
from time import monotonic
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from pydantic import Field, with_config
from typing_extensions import TypedDict

from tracking_query.api.context import Context
from tracking_query.api.parameters import Identifiers, Parameters, Statuses, WholeNumber, check_statuses
from tracking_query.api.query_openapi import described_read
from tracking_query.log.log_page import LogPage
from tracking_query.log.log_search import ExpiredPosition, LogFilter, UnknownPosition, read_log
from tracking_query.log.long_polling import LongPolling
from tracking_shared.api_docs.example_order import PICKED_UP_EVENT_DATA
from tracking_shared.contracts.access import Grant, Principal, readable_orders, sees_customer
from tracking_shared.contracts.cursors import InvalidCursor, Position
from tracking_shared.contracts.messages import (
    DESCRIBED,
    CloudEvent,
    CursorText,
    cloud_event,
    without_customer,
)
from tracking_shared.contracts.problems import EXAMPLE_TRACE_ID, ProblemError
from tracking_shared.http.described_routes import Answer, Content
from tracking_shared.http.http_limits import within
from tracking_shared.http.service_app import JsonResponse, head_only
from tracking_shared.storage.reads import bounded_read


@with_config(DESCRIBED)
class EventPage(TypedDict):
    """A page of the log."""

    events: list[CloudEvent]
    cursor: CursorText
    """Behind this page: where the next one starts."""
    has_more: bool
    """True: there may be more now."""


EVENT_PAGE: dict[str, Any] = {
    "events": [
        {
            "specversion": "1.0",
            "id": "acme-1001:2",
            "source": "/orders",
            "type": "order.status_changed",
            "subject": "acme-1001",
            "time": "2026-03-02T09:40:12.456Z",
            "datacontenttype": "application/json",
            "sequence": "00000000000000000017",
            "partition": 0,
            "traceparent": f"00-{EXAMPLE_TRACE_ID}-00f067aa0ba902b7-01",
            "data": PICKED_UP_EVENT_DATA,
        }
    ],
    "cursor": "eyJlIjoiMDE5ZiIsInMiOlsxNywyMSwxOSwyNF19",
    "has_more": False,
}


MAX_EVENTS = 1000
MAX_WAIT_SECONDS = 30


class EventParameters(Parameters):
    """The filters and the page of `GET /v1/events`."""

    after: str | None = None
    """The `cursor` of the answer before; without it, from the beginning of the log."""
    limit: Annotated[WholeNumber, Field(ge=1, le=MAX_EVENTS)] = 100
    """At most so many on a page."""
    wait: Annotated[WholeNumber, Field(ge=0, le=MAX_WAIT_SECONDS)] = 0
    """At the end of the log, wait up to so many seconds for the next event."""
    merchant_id: Identifiers
    """Only these merchants. May be repeated."""
    order_id: Identifiers
    """Only these orders. May be repeated."""
    status: Statuses
    """Only orders, or changes, of these statuses. May be repeated."""


def add_routes(app: FastAPI, context: Context, long_polling: LongPolling) -> None:
    """Adds `GET /v1/events`."""

    @app.get(
        "/v1/events",
        tags=["events"],
        summary="The event log, from any position",
        description=(
            "Events come in seq order within each partition. Go on with `after` = the `cursor` of the"
            " answer, which stands behind events that do not match too; while `has_more` is true there"
            " may be more. A page can be short, even empty, before the end. With `wait` the answer at the end"
            " of the log is held back until something matches, at most so many seconds. With `status`, events"
            " are given by the status that they lead to; a stream with such a filter also tells that an order"
            " left one. Events of archived orders are not in the log: it begins behind the newest one of"
            " them, and a cursor from before that has expired."
        ),
    )
    @described_read(
        Answer(200, "A page of the log", [Content(EventPage, EVENT_PAGE)]),
        problems=["invalid-cursor", "cursor-expired", "too-many-requests"],
    )
    async def get_events(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[EventParameters, Query()],
    ) -> Response:
        check_statuses(parameters.status, context.workflow)
        readable = readable_orders(
            principal.grant, parameters.merchant_id or None, parameters.order_id or None
        )
        wanted = LogFilter(readable, frozenset(parameters.status))
        page = await _read(context, wanted, await _position(context, parameters.after), parameters.limit)
        if parameters.wait and page.is_empty_at_head and not head_only(request):
            with within(context.limits.waits, principal):
                page = await _wait(context, long_polling, request, wanted, parameters, page=page)
        with bounded_read():
            await context.cursors.look_for(page.position.epoch)
        return _answer(context, principal.grant, page)


async def _wait(
    context: Context,
    long_polling: LongPolling,
    request: Request,
    wanted: LogFilter,
    parameters: EventParameters,
    *,
    page: LogPage,
) -> LogPage:
    deadline = monotonic() + parameters.wait
    disconnected = asyncio.create_task(_disconnect(request))
    try:
        while page.is_empty_at_head and (seconds := deadline - monotonic()) > 0:
            waiting = long_polling.wait(page.position, wanted, seconds)
            if not await cancel_on_disconnect(waiting, disconnected):
                break
            await context.reader(request)  # the token may have ended meanwhile
            page = await _read(context, wanted, page.position, parameters.limit)
    finally:
        disconnected.cancel()
    return page


async def cancel_on_disconnect(
    waiting: Coroutine[None, None, bool], disconnected: asyncio.Task[None]
) -> bool:
    """Returns what `waiting` returns; False, and `waiting` is cancelled, as soon as `disconnected` ends."""
    task = asyncio.create_task(waiting)
    try:
        await asyncio.wait({task, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else False
    finally:
        task.cancel()


async def _disconnect(request: Request) -> None:
    """Ends when the client closes its connection. For requests without a body."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _read(context: Context, wanted: LogFilter, after: Position | None, limit: int) -> LogPage:
    try:
        return await read_log(context.database, context.partitions, after, wanted, limit)
    except UnknownPosition:
        raise ProblemError("invalid-cursor", "The log has no such position.") from None
    except ExpiredPosition as error:
        raise ProblemError("cursor-expired", f"The cursor {error}; read from the beginning.") from None


async def _position(context: Context, cursor: str | None) -> Position | None:
    if cursor is None:
        return None
    try:
        with bounded_read():
            await context.cursors.look_for_key_of(cursor)
        return context.cursors.decode(cursor)
    except InvalidCursor as error:
        raise ProblemError("invalid-cursor", f"The cursor is {error}.") from None


def _answer(context: Context, grant: Grant, page: LogPage) -> Response:
    events = [cloud_event(event, context.workflow) for event in page.events]
    if not sees_customer(grant):
        events = [without_customer(event) for event in events]
    return JsonResponse(
        {
            "events": events,
            "cursor": context.cursors.encode(page.position),
            "has_more": page.has_surplus or not page.at_head,
        }
    )
