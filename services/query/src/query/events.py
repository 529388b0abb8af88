"""The event log: every change of every order, readable from any position."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field

from query.context import Context
from query.log_page import LogPage
from query.log_reader import ExpiredPosition, LogFilter, UnknownPosition, read_log
from query.openapi import answers
from query.parameters import Identifiers, Parameters, Statuses, WholeNumber, check_statuses
from query.reach import narrow
from shared.access import Grant, Principal, sees_customer
from shared.cursors import InvalidCursor, Position, decode_cursor, encode_cursor
from shared.http import JsonResponse
from shared.problems import ProblemError
from shared.views import cloud_event, without_customer

MAX_EVENTS = 1000


class EventParameters(Parameters):
    """The filters and the page of `GET /v1/events`."""

    after: str | None = None
    limit: Annotated[WholeNumber, Field(ge=1, le=MAX_EVENTS)] = 100
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
            " may be more. A page can be short, even empty, before the end."
        ),
        responses=answers("A page of the log", "invalid-cursor", "cursor-expired"),
    )
    async def get_events(
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[EventParameters, Query()],
    ) -> Response:
        check_statuses(parameters.status, context.workflow)
        page = await _read(context, principal.grant, parameters)
        return _answer(context, principal.grant, page)

    return router


async def _read(context: Context, grant: Grant, parameters: EventParameters) -> LogPage:
    wanted = LogFilter(
        narrow(grant, parameters.merchant_id, parameters.order_id), frozenset(parameters.status)
    )
    after = _position(parameters.after)
    try:
        return await read_log(context.database, context.partitions, after, wanted, parameters.limit)
    except UnknownPosition:
        raise ProblemError("invalid-cursor", "The log has no such position.") from None
    except ExpiredPosition:
        raise ProblemError(
            "cursor-expired", "The cursor belongs to a log that was replaced; read from the beginning."
        ) from None


def _position(cursor: str | None) -> Position | None:
    try:
        return None if cursor is None else decode_cursor(cursor)
    except InvalidCursor as error:
        raise ProblemError("invalid-cursor", f"The cursor is {error}.") from None


def _answer(context: Context, grant: Grant, page: LogPage) -> Response:
    events = [cloud_event(event, context.workflow) for event in page.events]
    if not sees_customer(grant):
        events = [without_customer(event) for event in events]
    return JsonResponse(
        {
            "events": events,
            "cursor": encode_cursor(page.position),
            "has_more": page.has_surplus or not page.at_head,
        }
    )
