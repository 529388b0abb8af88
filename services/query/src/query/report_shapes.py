"""What the reports answer with, as JSON. They describe and are not run on the way of an answer."""

from typing import Annotated, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from query.report_buckets import Interval
from query.report_counts import Since
from query.report_figures import Clock, Per
from shared.access import SourceType
from shared.messages import DESCRIBED, StatusText, TimeText

Count = Annotated[int, Field(ge=0)]


@with_config(DESCRIBED)
class GroupRow(TypedDict):
    """What the rows of every report may have."""

    merchant_id: NotRequired[str]
    """With `group_by=merchant`. Empty where there was no order, so no merchant."""


@with_config(DESCRIBED)
class RangeRow(GroupRow):
    """What the rows of a report over a time may have."""

    start: NotRequired[TimeText]
    """With `interval`: when this hour or day began."""
    local_start: NotRequired[str]
    """The same by the clocks of the zone, with their offset."""


@with_config(DESCRIBED)
class DurationRow(RangeRow):
    """How long orders took from status to status, in seconds."""

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
    """How many orders came into a status, and left it."""

    status: StatusText
    entered: Count
    left: Count


@with_config(DESCRIBED)
class RefusalRow(RangeRow):
    """How many updates of one source were refused for one reason."""

    reason: Annotated[str, Field(examples=["invalid-transition"])]
    """The slug of the problem that the sender was answered."""
    source_type: SourceType
    source_id: str
    """Empty for tokens that are narrowed to `orders`."""
    count: Count


@with_config(DESCRIBED)
class OpenRow(GroupRow):
    """How many open orders of one status are of an age, in seconds: from ≤ age < to."""

    status: StatusText
    age_from: Count
    age_to: Count | None
    """`null`: the last class has no end."""
    count: Count


Range = TypedDict("Range", {"from": TimeText, "to": TimeText, "interval": Interval | None, "time_zone": str})


class RefusalReport(Range):
    """Refused updates by reason and source."""

    as_of: TimeText
    rows: list[RefusalRow]


class DurationReport(Range):
    """How long orders take from status to status."""

    clock: Clock
    per: NotRequired[Per]
    """Not there with `leg`, the default."""
    as_of: NotRequired[TimeText]
    rows: list[DurationRow]


class StatusReport(Range):
    """How many orders came into each status, and left it."""

    clock: Clock
    as_of: NotRequired[TimeText]
    rows: list[StatusRow]


@with_config(DESCRIBED)
class TotalsRow(TypedDict):
    """How many orders came into a status."""

    status: StatusText
    entered: Count


Totals = TypedDict("Totals", {"from": TimeText, "to": TimeText})


class TotalsReport(Totals):
    """How many orders were created, and how many reached each final status."""

    as_of: TimeText
    rows: list[TotalsRow]


class OpenReport(TypedDict):
    """How many orders are open, by status and age."""

    at: TimeText
    since: Since
    as_of: TimeText
    rows: list[OpenRow]
