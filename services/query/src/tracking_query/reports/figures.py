"""From the histories of orders to the figures of the reports. No I/O, no clock."""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Generic, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.errors import TrackingError

Interval = Literal["hour", "day"]

MAX_BUCKETS = 10_000
"""More than a year of hours, 27 years of days."""

_LENGTH: dict[Interval, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
_STEP = timedelta(minutes=30)
"""No change of the clocks is a smaller one."""


class TooManyBuckets(ValueError):
    """The range has more than `MAX_BUCKETS` of the intervals."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """The times from `start` up to, not including, `end`, cut into intervals."""

    start: datetime
    end: datetime
    zone: ZoneInfo
    starts: tuple[datetime, ...]
    """The start of each bucket, in UTC. The first one may start before the range, and so be there in part."""

    def index(self, time: datetime) -> int | None:
        """The number of the bucket that `time` is in; None outside of the range."""
        if not self.start <= time < self.end:
            return None
        return bisect_right(self.starts, time) - 1

    def local(self, number: int) -> str:
        """The start of a bucket by the clocks of the zone, with their offset."""
        return self.starts[number].astimezone(self.zone).isoformat(timespec="seconds")


def cut(start: datetime, end: datetime, interval: Interval | None, zone: ZoneInfo) -> Buckets:
    """The range in buckets; without an interval it is one.

    Raises:
        TooManyBuckets: the range is too long for this interval.
    """
    if interval is None:
        return Buckets(start, end, zone, (start,))
    if (end - start) / _LENGTH[interval] > MAX_BUCKETS:
        raise TooManyBuckets
    return Buckets(start, end, zone, tuple(_starts(start, end, interval, zone)))


def _starts(start: datetime, end: datetime, interval: Interval, zone: ZoneInfo) -> Iterator[datetime]:
    current = _floor(start, interval, zone)
    while current < end:
        yield current
        time = current + _LENGTH[interval]
        # Where the clocks are set back, an interval later can still be the same one.
        while (following := _floor(time, interval, zone)) <= current:
            time += _STEP
        current = following


def _floor(time: datetime, interval: Interval, zone: ZoneInfo) -> datetime:
    # An hour that comes twice is two hours (fold stays); a midnight that comes twice starts the day once.
    local = time.astimezone(zone).replace(minute=0, second=0, microsecond=0)
    if interval == "day":
        local = local.replace(hour=0, fold=0)
    return local.astimezone(UTC)


Clock = Literal["recorded", "occurred"]
"""The time of an event that counts: when it was decided, or when it happened out there."""

Per = Literal["leg", "order"]
"""The span of a duration: one change of status, or a whole order, from its creation to its end."""

MAX_ROWS = 50_000
PERCENTILES = (50, 90, 99)

Value = TypeVar("Value")
Key = tuple[int | str, ...]


class TooManyRows(TrackingError):
    """The report would have more than `MAX_ROWS` rows."""


class Rows(Generic[Value]):
    """The rows of a report while they are being filled, by what tells them apart; a bounded number."""

    def __init__(self, new: Callable[[], Value]) -> None:
        self._new = new
        self.values: dict[Key, Value] = {}

    def at(self, *key: int | str) -> Value:
        """The row of `key`, a new one where there was none.

        Raises:
            TooManyRows: it would be one too many.
        """
        value = self.values.get(key)
        if value is None:
            if len(self.values) >= MAX_ROWS:
                raise TooManyRows
            value = self.values[key] = self._new()
        return value


class Step(NamedTuple):
    """An order comes into a status. Staying in one (a progress scan, a checkpoint) is no step."""

    merchant_id: str
    at: datetime
    status: str
    previous_status: str | None
    """None: it was created."""
    seconds: float
    """The time in the previous status. Negative where its source told the times so; 0 if created."""
    created_as: str
    seconds_since_creation: float
    due_at: datetime | None = None
    """When the order was due as it came into the status."""


def time_of(event: EventDocument, clock: Clock) -> datetime:
    """The event's time by `clock`. Without a time of its source, it happened when we heard of it."""
    if clock == "recorded":
        return event["recorded_at"]
    return event["occurred_at"] or event["received_at"]


def steps(history: Sequence[EventDocument], clock: Clock) -> Iterator[Step]:
    """The steps of one order, from its whole history by version, as the corrections left them."""
    created = history[0]
    created_at = since = time_of(created, clock)
    previous: str | None = None
    for event in _entries(history):
        at = time_of(event, clock)
        yield Step(
            event["merchant_id"],
            at,
            event["status"],
            previous,
            0.0 if previous is None else (at - since).total_seconds(),
            created["status"],
            (at - created_at).total_seconds(),
            event.get("due_at"),
        )
        since, previous = at, event["status"]


def _entries(history: Sequence[EventDocument]) -> list[EventDocument]:
    """The events with which an order came into its statuses, without those that a correction took back."""
    entries: list[EventDocument] = []
    for event in history:
        if event["status"] == event["previous_status"]:
            continue
        if not (_is_correction(event) and _is_back_in(event["status"], entries)):
            entries.append(event)
    return entries


def _is_correction(event: EventDocument) -> bool:
    return event.get("type") == "order.corrected"


def _is_back_in(status: str, entries: list[EventDocument]) -> bool:
    """Takes back what a correction to `status` says was wrong. True if the order had been in it before, so
    that it has been there since.
    """
    for number in reversed(range(len(entries))):
        if entries[number]["status"] == status:
            del entries[number + 1 :]
            return True
    # An order ends once. A status that is not final may have been right, with later ones not reported.
    if len(entries) > 1 and not entries[-1]["active"]:
        entries.pop()
    return False


def count_corrections(history: Sequence[EventDocument], clock: Clock, buckets: Buckets) -> int:
    """The number of corrections of one order within the range."""
    return sum(buckets.index(time_of(event, clock)) is not None for event in history if _is_correction(event))


def _no_durations() -> "array[float]":
    return array("d")


class Durations:
    """Durations of orders from status to status, or from their creation to a final status. One belongs to the
    time at which that ended.
    """

    columns = ("leg_from", "leg_to", "count", "negative", *(f"p{percent}" for percent in PERCENTILES))

    def __init__(self, workflow: Workflow, per: Per = "leg") -> None:
        self._workflow = workflow
        self._per = per
        self._rank = leg_ranks(workflow) if per == "leg" else whole_way_ranks(workflow)
        self._rows: Rows[array[float]] = Rows(_no_durations)

    def add(self, bucket: int, merchant: str, step: Step) -> None:
        """Counts a step that is in a bucket."""
        if step.previous_status is None:
            return
        if self._per == "leg":
            self._rows.at(bucket, merchant, step.previous_status, step.status).append(step.seconds)
        elif not self._workflow.is_active(step.status):
            self._rows.at(bucket, merchant, step.created_as, step.status).append(step.seconds_since_creation)

    def rows(self) -> Iterator[tuple[int, str, list[str | int | float]]]:
        """Bucket, merchant and cells of each row; legs in the order of the workflow's table."""
        for key in sorted(self._rows.values, key=self._place):
            bucket, merchant, before, after = key
            seconds = sorted(self._rows.values[key])
            figures = [round(percentile(seconds, percent), 3) for percent in PERCENTILES]
            negative = sum(value < 0 for value in seconds)
            yield int(bucket), str(merchant), [str(before), str(after), len(seconds), negative, *figures]

    def _place(self, key: Key) -> tuple[object, ...]:
        bucket, merchant, *leg = key
        return bucket, merchant, self._rank.get((str(leg[0]), str(leg[1])), len(self._rank)), *leg


def leg_ranks(workflow: Workflow) -> dict[tuple[str, str], int]:
    """The legs of the workflow, each with its place in the table."""
    legs = [
        (status, following)
        for status, followers in workflow.transitions.items()
        for following in followers
        if following != status
    ]
    return {leg: rank for rank, leg in enumerate(legs)}


def whole_way_ranks(workflow: Workflow) -> dict[tuple[str, str], int]:
    """The ways from creation to each final status, each with the place of that status in the table."""
    return {(workflow.initial, status): rank for rank, status in enumerate(workflow.transitions)}


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The nearest rank: the smallest of the values that at least `percent` % of them do not exceed.

    `ordered` is in ascending order and not empty; `percent` is from 1 to 100.
    """
    return ordered[-(-len(ordered) * percent // 100) - 1]


@dataclass(slots=True)
class _Deliveries:
    on_time: int = 0
    without_due_time: int = 0
    late: "array[float]" = field(default_factory=_no_durations)
    """By how many seconds."""


class Punctuality:
    """Counts deliveries by whether they were on time, and by how much the others were late. One is on time up
    to its due time, including it.
    """

    columns = ("on_time", "late", "without_due_time", *(f"p{percent}" for percent in PERCENTILES))

    def __init__(self, delivered: Collection[str]) -> None:
        """`delivered`: the statuses that mean that the order was delivered."""
        self._delivered = frozenset(delivered)
        self._rows: Rows[_Deliveries] = Rows(_Deliveries)

    def add(self, bucket: int, merchant: str, step: Step) -> None:
        """Counts a step that is in a bucket, if it is a delivery."""
        if step.status not in self._delivered:
            return
        row = self._rows.at(bucket, merchant)
        if step.due_at is None:
            row.without_due_time += 1
        elif step.at <= step.due_at:
            row.on_time += 1
        else:
            row.late.append((step.at - step.due_at).total_seconds())

    def rows(self) -> Iterator[tuple[int, str, list[str | int | float | None]]]:
        """Bucket, merchant and cells of each row. Where none was late, there are no percentiles."""
        for bucket, merchant in sorted(self._rows.values):
            row = self._rows.values[bucket, merchant]
            late = sorted(row.late)
            figures = [round(percentile(late, percent), 3) if late else None for percent in PERCENTILES]
            yield int(bucket), str(merchant), [row.on_time, len(late), row.without_due_time, *figures]


@dataclass(slots=True)
class _Flow:
    entered: int = 0
    left: int = 0


class StatusCounts:
    """Counts the orders that came into each status and those that left it."""

    columns = ("status", "entered", "left")

    def __init__(self, workflow: Workflow) -> None:
        self._rank = {status: rank for rank, status in enumerate(workflow.transitions)}
        self._rows: Rows[_Flow] = Rows(_Flow)

    def add(self, bucket: int, merchant: str, step: Step) -> None:
        """Counts a step that is in a bucket."""
        self._rows.at(bucket, merchant, step.status).entered += 1
        if step.previous_status is not None:
            self._rows.at(bucket, merchant, step.previous_status).left += 1

    def rows(self) -> Iterator[tuple[int, str, list[str | int | float]]]:
        """Bucket, merchant and cells of each row; statuses in the order of the workflow's table."""
        for key in sorted(self._rows.values, key=self._place):
            bucket, merchant, status = key
            flow = self._rows.values[key]
            yield int(bucket), str(merchant), [str(status), flow.entered, flow.left]

    def _place(self, key: Key) -> tuple[object, ...]:
        bucket, merchant, status = key
        return bucket, merchant, self._rank.get(str(status), len(self._rank)), status


def count_steps(
    history: Sequence[EventDocument],
    clock: Clock,
    buckets: Buckets,
    figures: Durations | StatusCounts | Punctuality,
    *,
    by_merchant: bool,
) -> None:
    """Adds what happened to one order within the range.

    Raises:
        TooManyRows: the report becomes too long.
    """
    for step in steps(history, clock):
        bucket = buckets.index(step.at)
        if bucket is not None:
            figures.add(bucket, step.merchant_id if by_merchant else "", step)
