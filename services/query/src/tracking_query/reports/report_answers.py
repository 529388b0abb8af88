"""The parameters of the reports, and their answers as JSON and CSV."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from fastapi import Request, Response
from pydantic import Field, field_validator

from tracking_query.api.negotiation import preferred_type
from tracking_query.api.parameters import (
    Identifiers,
    Parameters,
    Statuses,
    Time,
    check_statuses,
    invalid_parameter,
)
from tracking_query.horizon import AS_OF, as_of_header
from tracking_query.orders.tables import CSV_CONTENT_TYPE, CSV_MEDIA_TYPE, Cell, csv_lines
from tracking_query.reports.counts import Since
from tracking_query.reports.figures import MAX_BUCKETS, Buckets, Clock, Interval, Per, TooManyBuckets, cut
from tracking_shared.contracts.problems import ProblemError
from tracking_shared.contracts.timestamps import format_time, now, time_zones
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.http.service_app import JsonResponse

DEFAULT_RANGE = timedelta(days=7)

_OFFERED = ("application/json", CSV_MEDIA_TYPE)

Row = tuple[int, str, Sequence[Cell]]
"""The bucket, the merchant (empty: all of them), and the cells of a report's own columns."""


Start = Annotated[
    Time | None,
    Field(
        alias="from",
        description="The range: from ≤ t < to. Without it: seven days before `to`.",
        examples=["2026-03-01T00:00:00Z"],
    ),
]
End = Annotated[
    Time | None,
    Field(alias="to", description="Without it: now.", examples=["2026-03-08T00:00:00Z"]),
]
Merchants = Annotated[Identifiers, Field(description="Only these merchants. May be repeated.")]


class TotalsParameters(Parameters):
    """Parameters of the report on created and closed orders."""

    merchant_id: Merchants
    start: Start = None
    end: End = None

    def bounds(self) -> tuple[datetime, datetime]:
        """The range of time.

        Raises:
            ProblemError: `validation-failed`.
        """
        return _range(self.start, self.end)


def _range(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    end = end or now()
    start = start or end - DEFAULT_RANGE
    if end < start:
        raise invalid_parameter("to", "must not be before from")
    return start, end


class GroupParameters(Parameters):
    """Parameters of every report over many rows."""

    merchant_id: Merchants
    group_by: Annotated[
        Literal["merchant"] | None, Field(description="`merchant`: rows for each merchant.")
    ] = None


class RangeParameters(GroupParameters):
    """Parameters of the reports over a time."""

    start: Start = None
    end: End = None
    interval: Annotated[
        Interval | None,
        Field(description=f"Rows for each hour or day, at most {MAX_BUCKETS:,} of them. Else for the range."),
    ] = None
    time_zone: Annotated[
        str,
        Field(description="Whose hours and days: an IANA name.", examples=["Europe/Berlin"], max_length=64),
    ] = "UTC"

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in time_zones():
            raise ValueError("must be an IANA time zone, like Europe/Berlin")
        return name

    def buckets(self) -> Buckets:
        """The range, cut into the intervals of the zone.

        Raises:
            ProblemError: `validation-failed`.
        """
        start, end = _range(self.start, self.end)
        try:
            return cut(start, end, self.interval, ZoneInfo(self.time_zone))
        except TooManyBuckets:
            raise invalid_parameter(
                "interval", f"the range has more than {MAX_BUCKETS:,} of them; ask for a shorter one"
            ) from None


class StepsParameters(RangeParameters):
    """Parameters of the reports over the histories of orders."""

    clock: Annotated[
        Clock,
        Field(
            description=(
                "Which time of a change counts. `recorded`: when it was decided; the past stays as it was"
                " reported. `occurred`: when it happened, as its source says, else when it was received; a"
                " late message changes the past."
            )
        ),
    ] = "recorded"


class DurationsParameters(StepsParameters):
    """Parameters of the report on durations."""

    per: Annotated[
        Per,
        Field(
            description="`leg`: from each status to the next. `order`: from its creation to its final status."
        ),
    ] = "leg"


DELIVERED = "delivered"
"""The status that means it by default."""


class PunctualityParameters(StepsParameters):
    """Parameters of the report on punctuality."""

    status: Annotated[
        Statuses,
        Field(
            description=(
                "The statuses that mean that an order was delivered. May be repeated. Default: `delivered`;"
                " a workflow without that status needs one here."
            )
        ),
    ]

    def delivered(self, workflow: Workflow) -> list[str]:
        """The statuses that mean that an order was delivered.

        Raises:
            ProblemError: `validation-failed`: one is not in the workflow.
        """
        statuses = sorted(set(self.status)) or [DELIVERED]
        check_statuses(statuses, workflow)
        return statuses


class OpenParameters(GroupParameters):
    """Parameters of the report on open orders."""

    since: Annotated[
        Since, Field(description="What the age counts from: `created`, or `updated`, the newest change.")
    ] = "created"


@dataclass(frozen=True, slots=True)
class Frame:
    """The labels of the rows of a report."""

    asked: dict[str, Any]
    """Members of the answer that repeat the request."""

    buckets: Buckets | None
    """None: rows have no bucket."""

    by_merchant: bool

    def columns(self, own: Iterable[str]) -> list[str]:
        """The names of all columns."""
        time = ["start", "local_start"] if self.buckets else []
        return [*time, *(["merchant_id"] if self.by_merchant else []), *own]

    def cells(self, row: Row) -> list[Cell]:
        """One row under these columns."""
        bucket, merchant, own = row
        cells: list[Cell] = []
        if self.buckets:
            cells += [format_time(self.buckets.starts[bucket]), self.buckets.local(bucket)]
        return [*cells, *([merchant] if self.by_merchant else []), *own]


def range_frame(parameters: RangeParameters, buckets: Buckets) -> Frame:
    """The frame of a report over a time."""
    asked = {
        "from": format_time(buckets.start),
        "to": format_time(buckets.end),
        "interval": parameters.interval,
        "time_zone": parameters.time_zone,
    }
    if isinstance(parameters, StepsParameters):
        asked["clock"] = parameters.clock
    if isinstance(parameters, DurationsParameters) and parameters.per != "leg":
        asked["per"] = parameters.per
    return Frame(asked, buckets if parameters.interval else None, parameters.group_by is not None)


def wants_csv(request: Request) -> bool:
    """True if the caller prefers CSV to JSON.

    Raises:
        ProblemError: `not-acceptable`.
    """
    accept = ",".join(request.headers.getlist("accept")) or None
    chosen = preferred_type(accept, _OFFERED)
    if chosen is None:
        raise ProblemError("not-acceptable", f"There is {', '.join(_OFFERED)}.", offered=_OFFERED)
    return chosen == CSV_MEDIA_TYPE


ARCHIVED_UNTIL = "Archived-Until"
"""The header of a report whose range may contain changes of archived orders."""


def report_answer(
    frame: Frame,
    own: Sequence[str],
    rows: Iterable[Row],
    *,
    as_csv: bool,
    as_of: datetime | None,
    corrections: int | None = None,
    archived_until: datetime | None = None,
) -> Response:
    """The report in the form that was asked for. `as_of`: the horizon before it was read, where it tells of
    recorded times. `corrections`: the number of those in its range, where it counts without what they took
    back. `archived_until`: until then, orders were archived, and are not in it.
    """
    columns = frame.columns(own)
    lines: Iterator[list[Cell]] = (frame.cells(row) for row in rows)
    headers = {"Vary": "Accept"} | as_of_header(as_of)
    if corrections is not None:
        headers["Corrections"] = str(corrections)
    if archived_until is not None:
        headers[ARCHIVED_UNTIL] = format_time(archived_until)
    if as_csv:
        return Response(csv_lines([columns, *lines]), headers=headers | {"Content-Type": CSV_CONTENT_TYPE})
    members: dict[str, Any] = {"as_of": headers[AS_OF]} if as_of else {}
    if corrections is not None:
        members["corrections"] = corrections
    if archived_until is not None:
        members["archived_until"] = headers[ARCHIVED_UNTIL]
    document = frame.asked | members | {"rows": [dict(zip(columns, cells, strict=True)) for cells in lines]}
    return JsonResponse(document, headers=headers)
