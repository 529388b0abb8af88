"""The end of the log, read once for all webhooks of a process: what is new, for a while in memory."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple

from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.documents import EventDocument, event_type
from tracking_shared.contracts.layout import padded
from tracking_shared.storage.database import DatabaseUnavailable
from tracking_shared.telemetry.logs import PacedLog
from tracking_webhooks.adapters.log_reader import PAGE_EVENTS, LogReader
from tracking_webhooks.domain.recent_erasures import RecentErasures
from tracking_webhooks.metrics import TAIL_EVENTS

log = logging.getLogger(__name__)
paced_log = PacedLog(log)

POLL_SECONDS = 0.1
"""While nothing wakes it: one read of the few documents of the positions."""

POLL_SECONDS_WITH_BROKER = 1.0
"""While the broker says when there is something new. It may lose a message."""

AFTER_FAULT_SECONDS = 0.5

RECENT_EVENTS = 5_000
"""Kept in memory, some 3 KB each. A webhook that is further behind reads from the database."""

OnNew = Callable[[Sequence[EventDocument]], None]


class RecentEvent(NamedTuple):
    """An event in memory."""

    event: EventDocument
    read_at: float
    """Of the tail's clock. Its customer may have been erased since."""


class Tail:
    """Follows the end of the log."""

    def __init__(
        self, reader: LogReader, on_new: OnNew = lambda _: None, clock: Callable[[], float] = monotonic
    ) -> None:
        """`clock`: seconds. It is never set back: an erasure after the reading of an event is later by it."""
        self._reader = reader
        self.clock = clock
        self.on_new = on_new
        """Called with new events, in the order of each partition; with none, if they were too many."""
        self.end: Position | None = None
        """All events up to it can be read. None: not known yet."""
        self.start: Position | None = None
        """Of orders whose events are all up to it, some were archived. None: not known yet."""
        self.has_broker = False
        self._looked_at = -math.inf
        """When the newest look began that was not cut off. Everything that was committed before is known."""
        self._erasures = RecentErasures()
        self._recent: list[deque[RecentEvent]] = []
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Says that there is something new."""
        self._woken.set()

    def recent(self, partition: int, after: int, limit: int) -> list[RecentEvent] | None:
        """The next events after this seq, at most `limit`; None: they are not all in memory any more."""
        events = self._recent[partition]
        first = events[0].event["seq"] if events else self._end_of(partition) + 1
        if after + 1 < first:
            return None
        start = after + 1 - first
        # By index: from the end, where it mostly is, a deque is fast.
        return [events[index] for index in range(start, min(start + limit, len(events)))]

    def is_recent(self, event: EventDocument) -> bool:
        """True if this object is one of those in memory, which all webhooks share."""
        if event["partition"] >= len(self._recent):
            return False  # of a log that was replaced
        events = self._recent[event["partition"]]
        index = event["seq"] - events[0].event["seq"] if events else -1
        return 0 <= index < len(events) and events[index].event is event

    def is_unchanged(self, event: EventDocument, read_at: float, until: float) -> bool:
        """True if nobody has erased the customer of an event between its reading and `until`, both of the
        tail's clock. False: they may have, or it is not known.
        """
        if self.start is None or self._looked_at < until:
            return False
        if self._erasures.may_concern(event["order_id"], read_at):
            return False  # also each event of a log that was replaced
        # Orders that were archived are erased without an event of their own.
        return event["seq"] > self.start.seqs[event["partition"]]

    async def run(self) -> None:
        """Follows the log until cancelled."""
        while True:
            try:
                await self._look()
                seconds = POLL_SECONDS_WITH_BROKER if self.has_broker else POLL_SECONDS
            except DatabaseUnavailable as error:
                paced_log.warning("the log cannot be read", error)
                seconds = AFTER_FAULT_SECONDS
            try:
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _look(self) -> None:
        self._woken.clear()
        began = self.clock()
        self.start, end = await self._reader.read_ends()
        if self.end is None or self.end.epoch != end.epoch:
            self._start(end)
        else:
            await self._follow(self.start, end)
        self._looked_at = began

    async def _follow(self, start: Position, end: Position) -> None:
        self._add_partitions(len(end.seqs))
        for partition, last in enumerate(end.seqs):
            if self._end_of(partition) < start.seqs[partition]:
                self._leave_out(partition, start.seqs[partition])  # it has gaps since
            while self._end_of(partition) < last:
                await self._read_on(partition, last)

    def _start(self, end: Position) -> None:
        self.end = end
        self._erasures.start(self.clock())
        self._recent = []
        self._make_room(len(end.seqs))

    def _add_partitions(self, partitions: int) -> None:
        assert self.end is not None  # noqa: S101 - set before anything is read
        if partitions > len(self._recent):
            self._make_room(partitions)
        self.end = Position(self.end.epoch, padded(self.end.seqs, partitions))

    def _make_room(self, partitions: int) -> None:
        """Shares `RECENT_EVENTS` among so many partitions; those before keep their newest events."""
        size = max(1, RECENT_EVENTS // partitions)
        added = [()] * (partitions - len(self._recent))
        self._recent = [deque(recent, maxlen=size) for recent in (*self._recent, *added)]

    async def _read_on(self, partition: int, last: int) -> None:
        known = self._end_of(partition)
        if last - known > RECENT_EVENTS:
            self._leave_out(partition, last - PAGE_EVENTS)
            return
        events = await self._reader.read_new(partition, known, last)
        read_at = self.clock()
        self._recent[partition].extend(RecentEvent(event, read_at) for event in events)
        for event in events:
            if event_type(event) == "order.customer_erased":
                self._erasures.add(event["order_id"], read_at)
        self._set_end(partition, events[-1]["seq"])
        TAIL_EVENTS.inc(len(events))
        self.on_new(events)

    def _leave_out(self, partition: int, seq: int) -> None:
        """Goes on behind this seq. Who is further behind reads it from the database, each what it needs."""
        self._recent[partition].clear()
        self._erasures.start(self.clock())  # those in between are not read here
        self._set_end(partition, seq)
        self.on_new(())

    def _end_of(self, partition: int) -> int:
        assert self.end is not None  # noqa: S101 - set before anything is read
        return self.end.seqs[partition]

    def _set_end(self, partition: int, seq: int) -> None:
        assert self.end is not None  # noqa: S101 - set before anything is read
        seqs = list(self.end.seqs)
        seqs[partition] = seq
        self.end = Position(self.end.epoch, tuple(seqs))
