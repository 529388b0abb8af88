"""The reports: figures over many orders, computed when they are asked for."""

from asyncio import to_thread
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from query.context import Context
from query.horizon import reading_as_of
from query.parameters import invalid_parameter
from query.reach import narrow
from query.report_answers import (
    DurationsParameters,
    Frame,
    OpenParameters,
    RangeParameters,
    StepsParameters,
    TotalsParameters,
    range_frame,
    report_answer,
    wants_csv,
)
from query.report_counts import OpenOrders, Refusals
from query.report_figures import MAX_ROWS, Durations, StatusCounts, TooManyRows, count_steps
from query.report_reading import (
    REPORT_SECONDS,
    Deadline,
    RefusedUpdates,
    TooLong,
    changes_within,
    open_orders,
    read_histories,
    read_open_orders,
    read_refused_updates,
)
from query.report_totals import COLUMNS, read_totals
from shared.access import Grant, Principal, sees_customer
from shared.database import UPDATES_TTL_SECONDS
from shared.documents import EventDocument, OrderDocument, UpdateDocument
from shared.edges import within
from shared.outcome_reads import may_see
from shared.timestamps import format_time, now


def routes(context: Context) -> APIRouter:
    """`GET /v1/reports/…`."""
    router = APIRouter(prefix="/reports", tags=["reports"])
    limit = context.limits.reports

    @router.get(
        "/durations",
        summary="How long orders take from status to status",
        description=(
            "A leg is a change of status; it took as long as the order was in the status before. Messages"
            " that leave an order in its status do not end a leg. It belongs to the time at which it ended."
            " With `per=order` a row is the whole way of orders, from their creation to the final status in"
            " `leg_to`; orders that are still open are in none."
            " Percentiles are nearest ranks, in seconds. `negative`: legs whose source told times that run"
            " backwards; they are among the others. Legs that no order took have no row."
        ),
    )
    async def get_durations(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[DurationsParameters, Query()],
    ) -> Response:
        figures = Durations(context.workflow, parameters.per)
        with within(limit, principal), within_bounds():
            return await _steps_report(request, context, principal.grant, parameters, figures)

    @router.get(
        "/status-counts",
        summary="How many orders came into each status, and left it",
        description=(
            "`entered` counts orders that came into the status, `left` those that went on from it."
            " Statuses in which nothing happened have no row."
        ),
    )
    async def get_status_counts(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[StepsParameters, Query()],
    ) -> Response:
        figures = StatusCounts(context.workflow)
        with within(limit, principal), within_bounds():
            return await _steps_report(request, context, principal.grant, parameters, figures)

    @router.get(
        "/open-orders",
        summary="How many orders are open now, by status and age",
        description=(
            "Ages are in seconds, age_from ≤ age < age_to; the last class has no end. An order is open as"
            " long as something may still follow."
        ),
    )
    async def get_open_orders(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[OpenParameters, Query()],
    ) -> Response:
        with within(limit, principal), within_bounds():
            return await _open_orders(request, context, principal.grant, parameters)

    @router.get(
        "/created-and-closed",
        summary="How many orders were created, and how many reached each final status",
        description=(
            "One row for the status that orders begin in, and one for each in which nothing can follow; also"
            " where nothing was counted. Counted from indexes, so it is answered at once, and takes no place"
            " among the reports that compute."
        ),
    )
    async def get_created_and_closed(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[TotalsParameters, Query()],
    ) -> Response:
        as_csv = wants_csv(request)
        start, end = parameters.bounds()
        reach = narrow(principal.grant, parameters.merchant_id, ())
        async with reading_as_of(context.database) as as_of:
            rows = await read_totals(context.database, context.workflow, reach, start, end)
        frame = Frame({"from": format_time(start), "to": format_time(end)}, None, by_merchant=False)
        return report_answer(frame, COLUMNS, rows, as_csv=as_csv, as_of=as_of)

    @router.get(
        "/refusals",
        summary="How many updates were refused, by reason and source",
        description=(
            "`reason` is the slug of the problem that the sender was answered. Outcomes are kept for"
            f" {UPDATES_TTL_SECONDS // 86400} days, so there is nothing before. Updates for orders that did"
            " not exist have no merchant; those who see all merchants, and their senders, see them."
        ),
    )
    async def get_refusals(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[RangeParameters, Query()],
    ) -> Response:
        with within(limit, principal), within_bounds():
            return await _refusals(request, context, principal, parameters)

    return router


@contextmanager
def within_bounds() -> Iterator[None]:
    """Tells the caller of a report where it meets a bound.

    Raises:
        ProblemError: `validation-failed`: the report is too large.
    """
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
    changes = changes_within(reach, buckets.start, buckets.end, parameters.clock)
    async with reading_as_of(context.database) as horizon:
        await read_histories(context.database, context.partitions, changes, Deadline(), take)
    # By the other clock, a message that comes late changes the past.
    as_of = horizon if parameters.clock == "recorded" else None
    return await to_thread(report_answer, frame, figures.columns, figures.rows(), as_csv=as_csv, as_of=as_of)


async def _open_orders(
    request: Request, context: Context, grant: Grant, parameters: OpenParameters
) -> Response:
    as_csv = wants_csv(request)
    time = now()
    frame = Frame({"at": format_time(time), "since": parameters.since}, None, bool(parameters.group_by))
    figures = OpenOrders(context.workflow, time, parameters.since)

    def take(order: OrderDocument) -> None:
        figures.add(order, by_merchant=frame.by_merchant)

    query = open_orders(narrow(grant, parameters.merchant_id, ()))
    async with reading_as_of(context.database) as as_of:
        await read_open_orders(context.database, query, Deadline(), take)
    return await to_thread(report_answer, frame, figures.columns, figures.rows(), as_csv=as_csv, as_of=as_of)


async def _refusals(
    request: Request, context: Context, principal: Principal, parameters: RangeParameters
) -> Response:
    as_csv = wants_csv(request)
    buckets = parameters.buckets()
    frame = range_frame(parameters, buckets)
    figures = Refusals(with_sources=sees_customer(principal.grant))

    def take(update: UpdateDocument) -> None:
        if may_see(principal, update):
            figures.add(update, buckets, by_merchant=frame.by_merchant)

    asked = RefusedUpdates(buckets.start, buckets.end, parameters.merchant_id)
    async with reading_as_of(context.database) as as_of:
        await read_refused_updates(context.database, asked, Deadline(), take)
    return await to_thread(report_answer, frame, figures.columns, figures.rows(), as_csv=as_csv, as_of=as_of)
