"""The reports: figures over many orders, computed when they are asked for."""

from asyncio import to_thread
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response

from tracking_query.api.context import Context
from tracking_query.api.parameters import invalid_parameter
from tracking_query.api.query_openapi import described_read
from tracking_query.horizon import read_archived_until, reading_as_of
from tracking_query.orders.tables import CSV_MEDIA_TYPE, csv_lines
from tracking_query.reports import report_shapes
from tracking_query.reports.counts import OpenOrders, Refusals
from tracking_query.reports.figures import (
    MAX_ROWS,
    Durations,
    Punctuality,
    StatusCounts,
    TooManyRows,
    count_corrections,
    count_steps,
)
from tracking_query.reports.histories import (
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
from tracking_query.reports.open_counts import OPEN_COUNTS_COLUMNS, OpenCounts, read_open_counts
from tracking_query.reports.report_answers import (
    DurationsParameters,
    Frame,
    GroupParameters,
    OpenParameters,
    PunctualityParameters,
    RangeParameters,
    StepsParameters,
    TotalsParameters,
    range_frame,
    report_answer,
    wants_csv,
)
from tracking_query.reports.totals import TOTALS_COLUMNS, TotalsReport, read_totals_report
from tracking_shared.contracts.access import (
    Grant,
    Principal,
    ReadableOrders,
    readable_orders,
    sees_customer,
)
from tracking_shared.contracts.documents import EventDocument, OrderDocument, UpdateDocument
from tracking_shared.contracts.timestamps import format_time, now
from tracking_shared.http.described_routes import Answer, Content, Endpoint
from tracking_shared.http.http_limits import within
from tracking_shared.http.outcome_answers import may_see
from tracking_shared.storage.database import UPDATES_TTL_SECONDS
from tracking_shared.storage.reads import bounded_read
from tracking_shared.storage.shared_reads import SharedReads

SharedOpenCounts = SharedReads[tuple[ReadableOrders, bool], OpenCounts]
"""Boards that open together count the same orders. The answer says of which position of the log it is."""

SharedTotals = SharedReads[tuple[ReadableOrders, datetime | None, datetime | None], TotalsReport]
"""By the range as it was asked for. The answer says up to which time it is."""


_HEADERS = ("As-Of", "Corrections", "Archived-Until")


def _described_report(shape: Any, example: dict[str, Any]) -> Callable[[Endpoint], Endpoint]:
    rows = example["rows"]
    table = csv_lines([list(rows[0]), *(list(row.values()) for row in rows)]).decode()
    contents = [Content(shape, example), Content({"type": "string"}, table, CSV_MEDIA_TYPE)]
    return described_read(
        Answer(200, "The report", contents, always=["Vary"], sometimes=_HEADERS),
        problems=["not-acceptable", "too-many-requests"],
    )


def add_routes(app: FastAPI, context: Context) -> None:
    """Adds `GET /v1/reports/…`."""
    limit = context.limits.reports
    shared_counts: SharedOpenCounts = SharedReads()
    shared_totals: SharedTotals = SharedReads()

    @app.get(
        "/v1/reports/durations",
        tags=["reports"],
        summary="How long orders take from status to status",
        description=(
            "A leg is a change of status; it took as long as the order was in the status before. Messages"
            " and checkpoints that leave an order in its status do not end a leg. What a correction took back"
            " is no leg. It belongs to the time at which it ended."
            " With `per=order` a row is the whole way of orders, from their creation to the final status in"
            " `leg_to`; orders that are still open are in none."
            " Percentiles are nearest ranks, in seconds. `negative`: legs whose source told times that run"
            " backwards; they are among the others. Legs that no order took have no row."
        ),
    )
    @_described_report(report_shapes.DurationReport, report_shapes.DURATIONS)
    async def get_durations(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[DurationsParameters, Query()],
    ) -> Response:
        figures = Durations(context.workflow, parameters.per)
        with within(limit, principal), within_bounds():
            return await _steps_report(request, context, principal.grant, parameters, figures)

    @app.get(
        "/v1/reports/status-counts",
        tags=["reports"],
        summary="How many orders came into each status, and left it",
        description=(
            "`entered` counts orders that came into the status, `left` those that went on from it."
            " Statuses in which nothing happened have no row. What a correction took back is not counted."
        ),
    )
    @_described_report(report_shapes.StatusReport, report_shapes.STATUS_COUNTS)
    async def get_status_counts(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[StepsParameters, Query()],
    ) -> Response:
        figures = StatusCounts(context.workflow)
        with within(limit, principal), within_bounds():
            return await _steps_report(request, context, principal.grant, parameters, figures)

    @app.get(
        "/v1/reports/punctuality",
        tags=["reports"],
        summary="How many deliveries were on time, and by how much the others were late",
        description=(
            "A delivery is a step into a status that means it (`status`), and belongs to the time of that"
            " step. It is on time if it was not after the `due_at` that the order had then."
            " `without_due_time`: the order had none. Percentiles are nearest ranks of how late the late ones"
            " were, in seconds; `null` where none was. Where nothing was delivered, there is no row."
        ),
    )
    @_described_report(report_shapes.PunctualityReport, report_shapes.PUNCTUALITY)
    async def get_punctuality(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[PunctualityParameters, Query()],
    ) -> Response:
        figures = Punctuality(parameters.delivered(context.workflow))
        with within(limit, principal), within_bounds():
            return await _steps_report(request, context, principal.grant, parameters, figures)

    @app.get(
        "/v1/reports/open-orders",
        tags=["reports"],
        summary="How many orders are open now, by status and age",
        description=(
            "Ages are in seconds, age_from ≤ age < age_to; the last class has no end. An order is open as"
            " long as something may still follow."
        ),
    )
    @_described_report(report_shapes.OpenReport, report_shapes.OPEN_ORDERS)
    async def get_open_orders(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[OpenParameters, Query()],
    ) -> Response:
        with within(limit, principal), within_bounds():
            return await _open_orders(request, context, principal.grant, parameters)

    @app.get(
        "/v1/reports/open-counts",
        tags=["reports"],
        summary="How many orders are open, by status, at a position of the log",
        description=(
            "The numbers and `cursor` are of one moment: a stream or `GET /v1/events` that goes on after the"
            " cursor brings exactly the changes that are not counted. `overdue`: how many of `count` are."
            " Takes no place among the reports that compute."
        ),
    )
    @_described_report(report_shapes.OpenCountsReport, report_shapes.OPEN_COUNTS)
    async def get_open_counts(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[GroupParameters, Query()],
    ) -> Response:
        return await _open_counts(request, context, principal.grant, parameters, shared_counts)

    @app.get(
        "/v1/reports/created-and-closed",
        tags=["reports"],
        summary="How many orders were created, and how many reached each final status",
        description=(
            "One row for the status that orders begin in, and one for each in which nothing can follow; also"
            " where nothing was counted. Counted from indexes, so it is answered at once, and takes no place"
            " among the reports that compute."
        ),
    )
    @_described_report(report_shapes.TotalsReport, report_shapes.CREATED_AND_CLOSED)
    async def get_created_and_closed(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[TotalsParameters, Query()],
    ) -> Response:
        return await _created_and_closed(request, context, principal.grant, parameters, shared_totals)

    @app.get(
        "/v1/reports/refusals",
        tags=["reports"],
        summary="How many updates were refused, by reason and source",
        description=(
            "`reason` is the slug of the problem that the sender was answered. Outcomes are kept for"
            f" {UPDATES_TTL_SECONDS // 86400} days, so there is nothing before. Updates for orders that did"
            " not exist have no merchant; those who see all merchants, and their senders, see them."
        ),
    )
    @_described_report(report_shapes.RefusalReport, report_shapes.REFUSALS)
    async def get_refusals(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[RangeParameters, Query()],
    ) -> Response:
        with within(limit, principal), within_bounds():
            return await _refusals(request, context, principal, parameters)


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
    figures: Durations | StatusCounts | Punctuality,
) -> Response:
    as_csv = wants_csv(request)
    buckets = parameters.buckets()
    frame = range_frame(parameters, buckets)

    corrections = 0

    def take(history: list[EventDocument]) -> None:
        nonlocal corrections
        corrections += count_corrections(history, parameters.clock, buckets)
        count_steps(history, parameters.clock, buckets, figures, by_merchant=frame.by_merchant)

    readable = readable_orders(grant, parameters.merchant_id or None)
    changes = changes_within(readable, buckets.start, buckets.end, parameters.clock)
    async with reading_as_of(context.database) as horizon:
        await read_histories(context.database, context.partitions, changes, Deadline(), take)
    # By the other clock, a message that comes late changes the past.
    as_of = horizon if parameters.clock == "recorded" else None
    archived_until = await read_archived_until(context.database, buckets.start)
    return await to_thread(
        report_answer,
        frame,
        figures.columns,
        figures.rows(),
        as_csv=as_csv,
        as_of=as_of,
        corrections=corrections,
        archived_until=archived_until,
    )


async def _open_orders(
    request: Request, context: Context, grant: Grant, parameters: OpenParameters
) -> Response:
    as_csv = wants_csv(request)
    time = now()
    frame = Frame({"at": format_time(time), "since": parameters.since}, None, bool(parameters.group_by))
    figures = OpenOrders(context.workflow, time, parameters.since)

    def take(order: OrderDocument) -> None:
        figures.add(order, by_merchant=frame.by_merchant)

    query = open_orders(readable_orders(grant, parameters.merchant_id or None))
    async with reading_as_of(context.database) as as_of:
        await read_open_orders(context.database, query, Deadline(), take)
    return await to_thread(report_answer, frame, figures.columns, figures.rows(), as_csv=as_csv, as_of=as_of)


async def _open_counts(
    request: Request, context: Context, grant: Grant, parameters: GroupParameters, shared: SharedOpenCounts
) -> Response:
    as_csv = wants_csv(request)
    readable = readable_orders(grant, parameters.merchant_id or None)
    by_merchant = parameters.group_by is not None

    async def count() -> OpenCounts:
        return await read_open_counts(context.database, context.partitions, readable, by_merchant=by_merchant)

    try:
        found = await shared.read((readable, by_merchant), count)
    except TooManyRows:
        raise invalid_parameter("group_by", f"more than {MAX_ROWS:,} rows; ask without it") from None
    with bounded_read():
        await context.cursors.look_for(found.position.epoch)
    frame = Frame({"cursor": context.cursors.encode(found.position)}, None, by_merchant)
    rows = found.rows(context.workflow)
    return await to_thread(report_answer, frame, OPEN_COUNTS_COLUMNS, rows, as_csv=as_csv, as_of=None)


async def _created_and_closed(
    request: Request, context: Context, grant: Grant, parameters: TotalsParameters, shared: SharedTotals
) -> Response:
    as_csv = wants_csv(request)
    readable = readable_orders(grant, parameters.merchant_id or None)

    async def count() -> TotalsReport:
        start, end = parameters.bounds()
        return await read_totals_report(context.database, context.workflow, readable, start, end)

    # Callers count what happens after they asked, and lack what happened before, so it must be in the answer.
    found = await shared.read_anew((readable, parameters.start, parameters.end), count)
    asked = {"from": format_time(found.start), "to": format_time(found.end)}
    return report_answer(
        Frame(asked, None, by_merchant=False),
        TOTALS_COLUMNS,
        found.totals.rows,
        as_csv=as_csv,
        as_of=found.as_of,
        corrections=found.totals.corrections,
        archived_until=found.archived_until,
    )


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
