"""The event log: every change of every order, readable from any position."""

from time import monotonic
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from query.context import Context
from query.departure import left_by_client, unless
from query.log_page import LogPage
from query.log_reader import ExpiredPosition, LogFilter, UnknownPosition, read_log
from query.parameters import Identifiers, Parameters, Statuses, WholeNumber, check_statuses
from query.reach import narrow
from shared.access import Grant, Principal, sees_customer
from shared.bounded_reads import bounded_read
from shared.cursors import InvalidCursor, Position
from shared.edges import within
from shared.http import JsonResponse, head_only
from shared.problems import ProblemError
from shared.views import cloud_event, without_customer

MAX_EVENTS = 1000
MAX_WAIT_SECONDS = 30


class EventParameters(Parameters):
    """The filters and the page of `GET /v1/events`."""

    after: str | None = None
    limit: Annotated[WholeNumber, Field(ge=1, le=MAX_EVENTS)] = 100
    wait: Annotated[WholeNumber, Field(ge=0, le=MAX_WAIT_SECONDS)] = 0
    merchant_id: Identifiers
    order_id: Identifiers
    status: Statuses


def routes(context: Context) -> APIRouter:
    """`GET /v1/events`."""
    router = APIRouter(tags=["events"])

    @router.get(
        "/events",
        summary="The event log, from any position",
        description=(
            "Events come in seq order within each partition. Go on with `after` = the `cursor` of the"
            " answer, which stands behind events that do not match too; while `has_more` is true there"
            " may be more. A page can be short, even empty, before the end. With `wait` the answer at the end"
            " of the log is held back until something matches, at most so many seconds. With `status`, events"
            " are given by the status that they lead to; a stream with such a filter also tells that an order"
            " left one."
        ),
    )
    async def get_events(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[EventParameters, Query()],
    ) -> Response:
        check_statuses(parameters.status, context.workflow)
        reach = narrow(principal.grant, parameters.merchant_id, parameters.order_id)
        wanted = LogFilter(reach, frozenset(parameters.status))
        page = await _read(context, wanted, await _position(context, parameters.after), parameters.limit)
        if parameters.wait and page.is_empty_at_head and not head_only(request):
            with within(context.limits.waits, principal):
                page = await _wait(context, request, wanted, parameters, page)
        with bounded_read():
            await context.cursors.look_for(page.position.epoch)
        return _answer(context, principal.grant, page)

    return router


async def _wait(
    context: Context, request: Request, wanted: LogFilter, parameters: EventParameters, page: LogPage
) -> LogPage:
    deadline = monotonic() + parameters.wait
    async with left_by_client(request) as left:
        while page.is_empty_at_head and (seconds := deadline - monotonic()) > 0:
            if not await unless(left, context.log_watch.wait(page.position, wanted, seconds)):
                break
            await context.reader(request)  # the token may have ended meanwhile
            page = await _read(context, wanted, page.position, parameters.limit)
    return page


async def _read(context: Context, wanted: LogFilter, after: Position | None, limit: int) -> LogPage:
    try:
        return await read_log(context.database, context.partitions, after, wanted, limit)
    except UnknownPosition:
        raise ProblemError("invalid-cursor", "The log has no such position.") from None
    except ExpiredPosition:
        raise ProblemError(
            "cursor-expired", "The cursor belongs to a log that was replaced; read from the beginning."
        ) from None


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
