"""The progress of one webhook, and what is delivered next. Pure: events in, work out, outcomes in; times are
seconds since 1970, and random numbers come from outside.

Events are read in the order of the log into a bounded window. Of each order one event at a time is in flight,
in version order. An event that fails moves its order from the window into `delayed`, where it waits for its
next attempt, and with it all later events of that order; the other orders go on. When `delayed` is full, the
order waits in the window, and the cursor stops in front of it.

A failure of the endpoint as a whole (it cannot be reached, or asks to wait) moves nothing: the webhook
pauses.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from math import inf
from typing import NamedTuple

from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.layout import padded
from tracking_shared.contracts.webhooks import MAX_DELAYED_ORDERS, DisabledReason, WebhookState
from tracking_webhooks.domain.backoff import GIVE_UP_SECONDS, wait_seconds

MAX_WINDOW_EVENTS = 500
"""Events of one webhook in memory, some 3 KB each. As many as a page of the log."""

MAX_IN_FLIGHT = 8
"""Requests to one endpoint at a time. One that fails has 1, and twice as many after each success."""

RECOVERY_SPREAD_SECONDS = 30.0
"""When an order is delivered that had failed, the other delayed ones are tried within this time."""

RECOVERY_EVERY_SECONDS = 600.0
"""At most so often, so that one order that fails now and then does not hurry the others."""


class Failure(Enum):
    """The way in which a delivery failed."""

    EVENT = "event"
    """The receiver answered with an error, or not in time: another event may do better."""
    ENDPOINT = "endpoint"
    """The receiver cannot be reached, or asks to wait."""
    GONE = "gone"
    """The receiver answered 410: nothing shall be sent any more."""


@dataclass(slots=True, eq=False)
class Entry:
    """An event in the window."""

    event: EventDocument
    read_at: float
    handled: bool = False
    """True: delivered, or its order is delayed."""


@dataclass(slots=True, eq=False)
class Delayed:
    """An order whose event failed. It stands for all its events from `version` on."""

    order_id: str
    partition: int
    version: int
    failures: int
    since: float | None
    next_at: float
    newest_version: int = 0
    """The newest event of the order that was left to this entry since it was delayed; 0: none."""


@dataclass(frozen=True, slots=True)
class Missed:
    """Events that were archived before they were delivered."""

    events: int
    """With a filter, those of others among them: what is archived cannot be asked whose it was."""
    at: float
    """When the newest of them were noticed."""
    through: tuple[int, ...]
    """By partition: counted up to here, nothing in those that are not there. What a crash or a replay has
    read again is not counted again."""


class Work(NamedTuple):
    """One thing to do: deliver `entry`; without it, the next event of a delayed order, which is read then."""

    order_id: str
    entry: Entry | None = None
    newest_version: int = 0
    """The newest event that was left to the delayed order when its work began."""


@dataclass(slots=True)
class Progress:
    """The progress of one webhook. Every method keeps the invariants; none does I/O."""

    seqs: list[int]
    """The cursor, by partition: every event up to it is handled."""
    chance: Callable[[], float]
    """Random numbers from 0 to 1."""
    delayed: dict[str, Delayed] = field(default_factory=dict)
    failures: int = 0
    failing_since: float | None = None
    resume_at: float = 0.0
    disabled: DisabledReason | None = None
    missed: Missed | None = None
    max_delayed: int = MAX_DELAYED_ORDERS
    read: list[int] = field(init=False)
    """The positions up to which the log was read into the window."""
    _windows: list[deque[Entry]] = field(init=False)
    _orders: dict[str, deque[Entry]] = field(default_factory=dict)
    """The entries of each order that are not delayed, the next one first."""
    _ready: deque[str] = field(default_factory=deque)
    """Orders of `_orders` whose next entry can be delivered now."""
    _waiting: dict[str, Delayed] = field(default_factory=dict)
    """Orders that failed and found `delayed` full: they wait in the window."""
    _in_flight: set[str] = field(default_factory=set)
    _allowance: int = 1
    _hurried_at: float = -inf
    _size: int = 0

    def __post_init__(self) -> None:
        self.read = list(self.seqs)
        self._windows = [deque() for _ in self.seqs]

    def add_partitions(self, partitions: int) -> None:
        """Has so many partitions from now on; nothing of the new ones was read."""
        added = partitions - len(self.seqs)
        self.seqs += [0] * added
        self.read += [0] * added
        self._windows += [deque() for _ in range(added)]

    @property
    def state(self) -> WebhookState:
        """The state that callers see."""
        if self.disabled is not None:
            return "disabled"
        return "failing" if self.failures or self.delayed or self._waiting else "active"

    @property
    def is_suspect(self) -> bool:
        """True while nothing was delivered since the last failure of the endpoint, or at all."""
        return self._allowance == 1

    @property
    def room(self) -> int:
        """The number of events that may be added to the window now."""
        return 0 if self.disabled else MAX_WINDOW_EVENTS - self._size

    @property
    def has_room_in_flight(self) -> bool:
        """True if the endpoint may get one more request at a time."""
        return len(self._in_flight) < self._allowance

    @property
    def in_flight(self) -> int:
        """The number of deliveries that were begun and have not ended."""
        return len(self._in_flight)

    def add(self, partition: int, events: Iterable[EventDocument], through: int, read_at: float) -> None:
        """Adds the events that follow in this partition, in their order; all others up to the seq `through`
        are not for this webhook. `read_at`: when they were read from the log.
        """
        for event in events:
            order_id = event["order_id"]
            if order_id in self.delayed:
                self.delayed[order_id].newest_version = event["version"]
                continue
            entry = Entry(event, read_at)
            self._windows[partition].append(entry)
            self._size += 1
            of_order = self._orders.setdefault(order_id, deque())
            of_order.append(entry)
            if len(of_order) == 1:
                self._ready.append(order_id)
        self.read[partition] = through
        self._advance(partition)

    def next_work(self, now: float) -> Work | None:
        """Takes what is to be delivered now, if there is something and the endpoint may be asked."""
        if self.disabled or now < self.resume_at or not self.has_room_in_flight:
            return None
        for due in self._due(now) if self.delayed or self._waiting else ():
            entry = None if due.order_id in self.delayed else self._orders[due.order_id][0]
            self._in_flight.add(due.order_id)
            return Work(due.order_id, entry, due.newest_version)
        if not self._ready:
            return None
        order_id = self._ready.popleft()
        self._in_flight.add(order_id)
        return Work(order_id, self._orders[order_id][0])

    def uncounted(self, partition: int, after: int) -> int:
        """The seq behind `after` from which archived events were not counted yet."""
        if self.missed is None:
            return after
        return max(after, padded(self.missed.through, partition + 1)[partition])

    def missed_events(self, partition: int, through: int, events: int, now: float) -> None:
        """Up to the seq `through`, so many events that were not counted before had been archived."""
        before = self.missed or Missed(0, now, ())
        seqs = list(padded(before.through, len(self.seqs)))
        seqs[partition] = max(seqs[partition], through)
        self.missed = Missed(before.events + events, now, tuple(seqs))

    def upcoming(self, partition: int, count: int) -> list[Entry]:
        """The first entries of a partition that are not handled, at most `count`."""
        return list(islice((one for one in self._windows[partition] if not one.handled), count))

    def next_at(self) -> float:
        """The time at which `next_work` gives something, if nothing else happens; infinity: never."""
        if self.disabled or not self.has_room_in_flight:
            return inf
        waiting = [one.next_at for one in self._postponed() if one.order_id not in self._in_flight]
        earliest = 0.0 if self._ready else min(waiting, default=inf)
        return max(earliest, self.resume_at) if earliest < inf else inf

    def succeeded(self, work: Work, version: int, now: float) -> None:
        """The event of `version` was delivered."""
        self._in_flight.discard(work.order_id)
        self.failures, self.failing_since, self.resume_at = 0, None, 0.0
        self._allowance = min(self._allowance * 2, MAX_IN_FLIGHT)
        if work.entry is None:
            delayed = self.delayed[work.order_id]
            if delayed.failures:
                self._hurry(now)
            delayed.version, delayed.failures, delayed.since, delayed.next_at = version + 1, 0, None, now
            return
        self._waiting.pop(work.order_id, None)
        self._orders[work.order_id].popleft()
        self._handle(work.entry)
        self._offer(work.order_id)
        self._advance(work.entry.event["partition"])

    def found_nothing(self, work: Work) -> None:
        """There is no further event of a delayed order in the log up to `read`: it is delayed no longer."""
        self._in_flight.discard(work.order_id)
        delayed = self.delayed[work.order_id]
        # Else one was left to it while the log was asked, which is read next.
        if delayed.newest_version == work.newest_version:
            del self.delayed[work.order_id]

    def given_back(self, work: Work) -> None:
        """The work was not begun: it is done later."""
        self._in_flight.discard(work.order_id)
        if work.order_id in self._orders and work.order_id not in self._waiting:
            self._ready.appendleft(work.order_id)

    def failed(
        self, work: Work, version: int, failure: Failure, now: float, retry_after: float | None = None
    ) -> None:
        """The event of `version` was not delivered."""
        self._in_flight.discard(work.order_id)
        self._allowance = 1
        if failure is Failure.GONE:
            self.disabled = "gone"
        if failure is Failure.EVENT:
            self._delay(work, version, now, retry_after)
            return
        if work.entry is not None and work.order_id not in self._waiting:
            self._ready.append(work.order_id)  # behind the others: another one is tried next
        if now >= self.resume_at:  # else another request has failed with the same cause already
            self.failures += 1
            self.failing_since = now if self.failing_since is None else self.failing_since
            self.resume_at = now + wait_seconds(self.failures, retry_after, self.chance())
            self._give_up(self.failing_since, now)

    def delayed_orders(self) -> Sequence[Delayed]:
        """The delayed orders."""
        return list(self.delayed.values())

    def _delay(self, work: Work, version: int, now: float, retry_after: float | None) -> None:
        order_id = work.order_id
        one = self.delayed.get(order_id) or self._waiting.get(order_id)
        if one is None:
            partition = self._orders[order_id][0].event["partition"]
            one = Delayed(order_id, partition, version, 0, now, now)
            self._waiting[order_id] = one
        one.version = version
        one.failures += 1
        one.since = now if one.since is None else one.since
        one.next_at = now + wait_seconds(one.failures, retry_after, self.chance())
        if order_id in self._waiting and len(self.delayed) < self.max_delayed:
            self._leave_window(self._waiting.pop(order_id))
        self._give_up(one.since, now)

    def _leave_window(self, one: Delayed) -> None:
        self.delayed[one.order_id] = one
        for entry in self._orders.pop(one.order_id):
            self._handle(entry)
        self._advance(one.partition)

    def _give_up(self, since: float, now: float) -> None:
        if now - since >= GIVE_UP_SECONDS:
            self.disabled = "failed-too-long"

    def _postponed(self) -> Iterator[Delayed]:
        yield from self.delayed.values()
        yield from self._waiting.values()

    def _due(self, now: float) -> list[Delayed]:
        due = [one for one in self._postponed() if one.next_at <= now and one.order_id not in self._in_flight]
        return sorted(due, key=lambda one: one.next_at)

    def _hurry(self, now: float) -> None:
        if now - self._hurried_at < RECOVERY_EVERY_SECONDS:
            return
        self._hurried_at = now
        for one in self._postponed():
            one.next_at = min(one.next_at, now + RECOVERY_SPREAD_SECONDS * self.chance())

    def _offer(self, order_id: str) -> None:
        if self._orders[order_id]:
            self._ready.append(order_id)
        else:
            del self._orders[order_id]

    def _handle(self, entry: Entry) -> None:
        entry.handled = True

    def _advance(self, partition: int) -> None:
        window = self._windows[partition]
        while window and window[0].handled:
            window.popleft()
            self._size -= 1
        self.seqs[partition] = window[0].event["seq"] - 1 if window else self.read[partition]
