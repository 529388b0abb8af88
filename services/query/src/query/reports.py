"""The reports: figures over many orders, computed when they are asked for."""

from asyncio import Semaphore, to_thread
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from query.context import Context
from query.parameters import invalid_parameter
from query.reach import narrow
from query.report_answers import (
    Frame,
    OpenParameters,
    RangeParameters,
    StepsParameters,
    described,
    range_frame,
    report_answer,
    wants_csv,
)
from query.report_counts import OpenOrders, Refusals
from query.report_figures import MAX_ROWS, Durations, StatusCounts, TooManyRows, count_steps
from query.report_reading import (
    REPORT_SECONDS,
    Deadline,
    TooLong,
    changed_orders,
    open_orders,
    read_each,
    read_histories,
    refused_updates,
)
from query.updates import may_see
from shared.access import Grant, Principal
from shared.database import UPDATES_TTL_SECONDS
from shared.documents import EventDocument, OrderDocument, UpdateDocument
from shared.problems import ProblemError
from shared.timestamps import format_time, now

MAX_AT_ONCE = 2
"""Reports that one process computes at a time; the other requests need the database too."""


def routes(context: Context) -> APIRouter:
    """`GET /v1/reports/…`."""
    router = APIRouter(prefix="/reports", tags=["reports"])
    places = Semaphore(MAX_AT_ONCE)

    @router.get(
        "/durations",
        summary="How long orders take from status to status",
        description=(
            "A leg is a change of status; it took as long as the order was in the status before. Messages"
            " that leave an order in its status do not end a leg. It belongs to the time at which it ended."
            " Percentiles are nearest ranks, in seconds. `negative`: legs whose source told times that run"
            " backwards; they are among the others. Legs that no order took have no row."
        ),
        responses=described("Durations in seconds", _DURATIONS),
    )
    async def get_durations(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[StepsParameters, Query()],
    ) -> Response:
        figures = Durations(context.workflow)
        async with bounded(places):
            return await _steps_report(request, context, principal.grant, parameters, figures)

    @router.get(
        "/status-counts",
        summary="How many orders came into each status, and left it",
        description=(
            "`entered` counts orders that came into the status, `left` those that went on from it."
            " Statuses in which nothing happened have no row."
        ),
        responses=described("Counts by status", _STATUS_COUNTS),
    )
    async def get_status_counts(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[StepsParameters, Query()],
    ) -> Response:
        figures = StatusCounts(context.workflow)
        async with bounded(places):
            return await _steps_report(request, context, principal.grant, parameters, figures)

    @router.get(
        "/open-orders",
        summary="How many orders are open now, by status and age",
        description=(
            "Ages are in seconds, age_from ≤ age < age_to; the last class has no end. An order is open as"
            " long as something may still follow."
        ),
        responses=described("Counts by status and age", _OPEN_ORDERS),
    )
    async def get_open_orders(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[OpenParameters, Query()],
    ) -> Response:
        async with bounded(places):
            return await _open_orders(request, context, principal.grant, parameters)

    @router.get(
        "/refusals",
        summary="How many updates were refused, by reason and source",
        description=(
            "`reason` is the slug of the problem that the sender was answered. Outcomes are kept for"
            f" {UPDATES_TTL_SECONDS // 86400} days, so there is nothing before. Updates for orders that did"
            " not exist have no merchant; those who see all merchants, and their senders, see them."
        ),
        responses=described("Counts by reason and source", _REFUSALS),
    )
    async def get_refusals(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[RangeParameters, Query()],
    ) -> Response:
        async with bounded(places):
            return await _refusals(request, context, principal, parameters)

    return router


@asynccontextmanager
async def bounded(places: Semaphore) -> AsyncIterator[None]:
    """Takes a place for one report, and tells its caller where a bound is met.

    Raises:
        ProblemError: `too-many-requests`; `validation-failed` where the report is too large.
    """
    if places.locked():
        raise ProblemError(
            "too-many-requests", f"{MAX_AT_ONCE} reports are being computed; repeat it a little later."
        )
    async with places:
        try:
            yield
        except TooLong:
            raise invalid_parameter(
                "from", f"the report takes longer than {REPORT_SECONDS:g} s; ask for a shorter range"
            ) from None
        except TooManyRows:
            raise invalid_parameter(
                "from", f"the report has more than {MAX_ROWS:,} rows; ask for a shorter range"
            ) from None


async def _steps_report(
    request: Request,
    context: Context,
    grant: Grant,
    parameters: StepsParameters,
    figures: Durations | StatusCounts,
) -> Response:
    as_csv = wants_csv(request)
    buckets = parameters.buckets()
    frame = range_frame(parameters, buckets)

    def take(history: list[EventDocument]) -> None:
        count_steps(history, parameters.clock, buckets, figures, by_merchant=frame.by_merchant)

    reach = narrow(grant, parameters.merchant_id, ())
    selection = changed_orders(reach, buckets.start, buckets.end, parameters.clock)
    await read_histories(context.database, selection, Deadline(), take)
    return await to_thread(report_answer, frame, figures.columns, figures.rows(), as_csv=as_csv)


async def _open_orders(
    request: Request, context: Context, grant: Grant, parameters: OpenParameters
) -> Response:
    as_csv = wants_csv(request)
    time = now()
    frame = Frame({"at": format_time(time), "since": parameters.since}, None, bool(parameters.group_by))
    figures = OpenOrders(context.workflow, time, parameters.since)

    def take(order: OrderDocument) -> None:
        figures.add(order, by_merchant=frame.by_merchant)

    selection = open_orders(narrow(grant, parameters.merchant_id, ()))
    await read_each(context.database.orders, selection, Deadline(), take)
    return await to_thread(report_answer, frame, figures.columns, figures.rows(), as_csv=as_csv)


async def _refusals(
    request: Request, context: Context, principal: Principal, parameters: RangeParameters
) -> Response:
    as_csv = wants_csv(request)
    buckets = parameters.buckets()
    frame = range_frame(parameters, buckets)
    figures = Refusals()

    def take(update: UpdateDocument) -> None:
        if may_see(principal, update):
            figures.add(update, buckets, by_merchant=frame.by_merchant)

    selection = refused_updates(buckets.start, buckets.end, parameters.merchant_id)
    await read_each(context.database.updates, selection, Deadline(), take)
    return await to_thread(report_answer, frame, figures.columns, figures.rows(), as_csv=as_csv)


_ASKED = {
    "from": "2026-03-01T00:00:00.000Z",
    "to": "2026-03-08T00:00:00.000Z",
    "interval": "day",
    "time_zone": "Europe/Berlin",
    "clock": "occurred",
}
_BUCKET = {"start": "2026-03-01T23:00:00.000Z", "local_start": "2026-03-02T00:00:00+01:00"}
_PERCENTILES = {"p50": 64800.0, "p90": 172800.5, "p99": 345600.0}
_LEG = {"leg_from": "in_transit", "leg_to": "delivered"}
_DURATIONS: dict[str, Any] = _ASKED | {
    "rows": [_BUCKET | _LEG | {"count": 412, "negative": 0} | _PERCENTILES],
}
_STATUS_COUNTS: dict[str, Any] = _ASKED | {
    "rows": [
        _BUCKET | {"status": "in_transit", "entered": 431, "left": 412},
        _BUCKET | {"status": "delivered", "entered": 412, "left": 0},
    ]
}
_OPEN_ORDERS: dict[str, Any] = {
    "at": "2026-03-08T09:30:00.000Z",
    "since": "created",
    "rows": [
        {"status": "created", "age_from": 0, "age_to": 3600, "count": 31},
        {"status": "in_transit", "age_from": 2592000, "age_to": None, "count": 2},
    ],
}
_SENDER = {"source_type": "driver", "source_id": "driver-17"}
_REFUSALS: dict[str, Any] = {name: value for name, value in _ASKED.items() if name != "clock"} | {
    "rows": [_BUCKET | {"reason": "invalid-transition"} | _SENDER | {"count": 7}],
}
