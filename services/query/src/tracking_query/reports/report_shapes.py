"""Shapes of the answers of the reports, and an example of each. They describe, and are not run on the way of
an answer.
"""

from typing import Annotated, Any, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from tracking_query.reports.counts import Since
from tracking_query.reports.figures import Clock, Interval, Per
from tracking_shared.contracts.access import SourceType
from tracking_shared.contracts.messages import DESCRIBED, CursorText, StatusText, TimeText

Count = Annotated[int, Field(ge=0)]
ArchivedUntil = Annotated[
    TimeText,
    Field(
        description="Orders whose newest change was recorded until then may be archived, and are not counted."
        " Not there: none was archived that belongs to the range."
    ),
]

Corrections = Annotated[
    int, Field(ge=0, description="Corrections in the range. What they took back is not counted.")
]


@with_config(DESCRIBED)
class GroupRow(TypedDict):
    """Members that the rows of every report may have."""

    merchant_id: NotRequired[str]
    """With `group_by=merchant`. Empty where there was no order, so no merchant."""


@with_config(DESCRIBED)
class RangeRow(GroupRow):
    """Members that the rows of a report over a time may have."""

    start: NotRequired[TimeText]
    """With `interval`: when this hour or day began."""
    local_start: NotRequired[str]
    """The same by the clocks of the zone, with their offset."""


@with_config(DESCRIBED)
class DurationRow(RangeRow):
    """Durations from status to status, in seconds."""

    leg_from: StatusText
    leg_to: StatusText
    count: Count
    negative: Count
    """Legs whose source told times that run backwards; they are among the others."""
    p50: float
    p90: float
    p99: float


@with_config(DESCRIBED)
class StatusRow(RangeRow):
    """The number of orders that came into a status, and left it."""

    status: StatusText
    entered: Count
    left: Count


@with_config(DESCRIBED)
class RefusalRow(RangeRow):
    """The number of updates of one source that were refused for one reason."""

    reason: Annotated[str, Field(examples=["invalid-transition"])]
    """The slug of the problem that the sender was answered."""
    source_type: SourceType
    source_id: str
    """Empty for tokens that are narrowed to `orders`."""
    count: Count


@with_config(DESCRIBED)
class OpenRow(GroupRow):
    """The number of open orders of one status and age, in seconds: from ≤ age < to."""

    status: StatusText
    age_from: Count
    age_to: Count | None
    """`null`: the last class has no end."""
    count: Count


@with_config(DESCRIBED)
class OpenCountRow(GroupRow):
    """The number of open orders of one status, and of those of them that are overdue."""

    status: StatusText
    count: Count
    overdue: Count


Range = TypedDict("Range", {"from": TimeText, "to": TimeText, "interval": Interval | None, "time_zone": str})


class RefusalReport(Range):
    """Refused updates by reason and source."""

    as_of: TimeText
    rows: list[RefusalRow]


class DurationReport(Range):
    """Durations of orders from status to status."""

    clock: Clock
    per: NotRequired[Per]
    """Not there with `leg`, the default."""
    as_of: NotRequired[TimeText]
    archived_until: NotRequired[ArchivedUntil]
    corrections: Corrections
    rows: list[DurationRow]


@with_config(DESCRIBED)
class PunctualityRow(RangeRow):
    """The number of deliveries on time and late, and how late, in seconds."""

    on_time: Count
    late: Count
    without_due_time: Count
    p50: float | None
    """Of the late ones; `null`: there were none."""
    p90: float | None
    p99: float | None


class PunctualityReport(Range):
    """Deliveries on time and late."""

    clock: Clock
    as_of: NotRequired[TimeText]
    archived_until: NotRequired[ArchivedUntil]
    corrections: Corrections
    rows: list[PunctualityRow]


class StatusReport(Range):
    """The number of orders that came into each status, and left it."""

    clock: Clock
    as_of: NotRequired[TimeText]
    archived_until: NotRequired[ArchivedUntil]
    corrections: Corrections
    rows: list[StatusRow]


@with_config(DESCRIBED)
class TotalsRow(TypedDict):
    """The number of orders that came into a status."""

    status: StatusText
    entered: Count


Totals = TypedDict("Totals", {"from": TimeText, "to": TimeText})


class TotalsReport(Totals):
    """The number of orders that were created, and of those that reached each final status."""

    as_of: TimeText
    archived_until: NotRequired[ArchivedUntil]
    corrections: Corrections
    rows: list[TotalsRow]


class OpenReport(TypedDict):
    """The number of open orders by status and age."""

    at: TimeText
    since: Since
    as_of: TimeText
    rows: list[OpenRow]


@with_config(DESCRIBED)
class OpenCountsReport(TypedDict):
    """The numbers of open orders at a position of the log."""

    cursor: CursorText
    """Where to go on: the changes after it are not counted."""
    rows: list[OpenCountRow]


Example = dict[str, Any]

_RANGE: Example = {
    "from": "2026-03-01T00:00:00.000Z",
    "to": "2026-03-08T00:00:00.000Z",
    "interval": "day",
    "time_zone": "Europe/Berlin",
}
_BUCKET = {"start": "2026-03-01T23:00:00.000Z", "local_start": "2026-03-02T00:00:00+01:00"}
_LEG = {"leg_from": "in_transit", "leg_to": "delivered"}
_AS_OF = "2026-03-08T09:29:59.021Z"
_PERCENTILES = {"p50": 64800.0, "p90": 172800.5, "p99": 345600.0}
_SENDER = {"source_type": "driver", "source_id": "driver-17"}

DURATIONS: Example = _RANGE | {
    "clock": "recorded",
    "as_of": _AS_OF,
    "corrections": 2,
    "rows": [_BUCKET | _LEG | {"count": 412, "negative": 0} | _PERCENTILES],
}

PUNCTUALITY: Example = _RANGE | {
    "clock": "recorded",
    "as_of": _AS_OF,
    "corrections": 0,
    "rows": [
        _BUCKET
        | {"on_time": 371, "late": 38, "without_due_time": 3}
        | {"p50": 9420.0, "p90": 86400.5, "p99": 190800.0}
    ],
}

STATUS_COUNTS: Example = _RANGE | {
    "clock": "recorded",
    "as_of": _AS_OF,
    "corrections": 2,
    "rows": [
        _BUCKET | {"status": "in_transit", "entered": 431, "left": 412},
        _BUCKET | {"status": "delivered", "entered": 412, "left": 0},
    ],
}

OPEN_ORDERS: Example = {
    "at": "2026-03-08T09:30:00.000Z",
    "since": "created",
    "as_of": _AS_OF,
    "rows": [
        {"status": "created", "age_from": 0, "age_to": 3600, "count": 31},
        {"status": "in_transit", "age_from": 2592000, "age_to": None, "count": 2},
    ],
}

OPEN_COUNTS: Example = {
    "cursor": "eyJlIjoiMDE5ZiIsInMiOlsxNywyMSwxOSwyNF19",
    "rows": [
        {"status": "created", "count": 31, "overdue": 0},
        {"status": "in_transit", "count": 212, "overdue": 9},
    ],
}

CREATED_AND_CLOSED: Example = {
    "from": _RANGE["from"],
    "to": _RANGE["to"],
    "as_of": _AS_OF,
    "corrections": 2,
    "rows": [
        {"status": "created", "entered": 431},
        {"status": "delivered", "entered": 412},
        {"status": "cancelled", "entered": 9},
    ],
}

REFUSALS: Example = _RANGE | {
    "as_of": _AS_OF,
    "rows": [_BUCKET | {"reason": "invalid-transition"} | _SENDER | {"count": 7}],
}
