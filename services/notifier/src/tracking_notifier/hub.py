"""The hub: publishes the events of the log, in order, to the live connections whose audience matches.

It also has the newest events in memory, so that most reconnects do not touch the database. Nothing here
waits: a connection that cannot take its events delays no other. Imports no I/O.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from tracking_notifier.metrics import DELIVERED, MESSAGES
from tracking_notifier.stream.events import Erased, Event, erase_in
from tracking_notifier.stream.filters import Audience
from tracking_notifier.stream.stream_messages import (
    MAX_STREAM_MESSAGE_BYTES,
    Framing,
    events_message,
    websocket_frame,
)
from tracking_shared.contracts.cursors import Position, encode_cursor


class Sink(Protocol):
    """The writer of a live connection's frames."""

    def write(self, frame: bytes, /) -> None:
        """Sends a frame without waiting. It must not raise; the connection may unsubscribe meanwhile."""


class Subscriber(Protocol):
    """A live connection."""

    @property
    def sink(self) -> Sink:
        """The writer of its frames. After a change the connection is added to its group again."""

    def on_log_replaced(self) -> None:
        """The hub follows another log now; the subscription cannot be continued."""


class SubscriberGroup:
    """The live connections of one audience and one kind, and the events that the next flush sends them."""

    __slots__ = ("_cached_sinks", "_sinks", "audience", "events_sent", "framing", "pending", "with_customer")

    def __init__(self, audience: Audience, framing: Framing) -> None:
        self.audience = audience
        self.framing = framing
        self.with_customer = audience.with_customer
        self.pending: list[bytes] = []
        self.events_sent = 0
        """Counted per group, because the path to each connection must stay short."""
        self._sinks: dict[Subscriber, Sink] = {}
        self._cached_sinks: tuple[Sink, ...] | None = ()

    @property
    def subscribers(self) -> tuple[Subscriber, ...]:
        """The connections in the group."""
        return tuple(self._sinks)

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """The writers of the connections. Cached: collecting a thousand scattered objects is slow."""
        if self._cached_sinks is None:
            self._cached_sinks = tuple(self._sinks.values())
        return self._cached_sinks

    @property
    def is_empty(self) -> bool:
        """True if it has no connection."""
        return not self._sinks

    def add(self, subscriber: Subscriber) -> None:
        """Adds a connection, or replaces its sink."""
        self._sinks[subscriber] = subscriber.sink
        self._cached_sinks = None

    def remove(self, subscriber: Subscriber) -> None:
        """Removes a connection if it is in the group."""
        self._sinks.pop(subscriber, None)
        self._cached_sinks = None


class GroupIndex:
    """The groups, indexed by order and merchant, so that an event is compared with few of them."""

    def __init__(self) -> None:
        self._groups: dict[tuple[Audience, Framing], SubscriberGroup] = {}
        self._by_order: dict[str, set[SubscriberGroup]] = {}
        self._by_merchant: dict[str, set[SubscriberGroup]] = {}
        self._unlimited: set[SubscriberGroup] = set()

    def __iter__(self) -> Iterator[SubscriberGroup]:
        return iter(tuple(self._groups.values()))

    def get_or_create(self, audience: Audience, framing: Framing = websocket_frame) -> SubscriberGroup:
        """The group of an audience whose connections take messages in this framing."""
        group = self._groups.get((audience, framing))
        if group is None:
            group = self._groups[audience, framing] = SubscriberGroup(audience, framing)
            self._insert(group)
        return group

    def discard(self, group: SubscriberGroup) -> None:
        """Removes a group without connections."""
        del self._groups[group.audience, group.framing]
        index, names = self._index_of(group)
        if index is None:
            self._unlimited.discard(group)
            return
        for name in names:
            index[name].discard(group)
            if not index[name]:
                del index[name]

    def matching(self, event: Event) -> list[SubscriberGroup]:
        """The groups whose audience gets the event."""
        candidates = (
            *self._by_order.get(event.order_id, ()),
            *self._by_merchant.get(event.merchant_id, ()),
            *self._unlimited,
        )
        return [group for group in candidates if group.audience.matches(event)]

    def _insert(self, group: SubscriberGroup) -> None:
        index, names = self._index_of(group)
        if index is None:
            self._unlimited.add(group)
            return
        for name in names:
            index.setdefault(name, set()).add(group)

    def _index_of(
        self, group: SubscriberGroup
    ) -> tuple[dict[str, set[SubscriberGroup]] | None, frozenset[str]]:
        # A group is in one index only, the narrower one, so that an event finds it once.
        readable = group.audience.readable
        if readable.orders is not None:
            return self._by_order, readable.orders
        if readable.merchants is not None:
            return self._by_merchant, readable.merchants
        return None, frozenset()


class RecentEvents:
    """The newest events of each partition without gaps, bounded in bytes."""

    def __init__(self, partitions: int, limit_bytes: int) -> None:
        self._events: list[deque[Event]] = []
        self._sizes: list[int] = []
        self._limit_bytes = limit_bytes
        self.add_partitions(partitions)

    def add_partitions(self, partitions: int) -> None:
        """Has so many partitions from now on, which share the limit."""
        added = max(partitions - len(self._events), 0)
        self._events += [deque() for _ in range(added)]
        self._sizes += [0] * added
        self._limit = self._limit_bytes // len(self._events)

    def add(self, event: Event) -> None:
        """Appends the next event of its partition and drops the oldest ones beyond the limit."""
        partition = event.partition
        events = self._events[partition]
        events.append(event)
        size = self._sizes[partition] + event.memory_bytes
        while size > self._limit:
            size -= events.popleft().memory_bytes
        self._sizes[partition] = size

    def erase(self, erased: Erased) -> None:
        """Erases the customers of these orders."""
        for partition, events in enumerate(self._events):
            self._sizes[partition] -= erase_in(events, erased)

    def after(self, partition: int, seq: int, limit: int) -> list[Event] | None:
        """Up to `limit` events that follow `seq`; None if the first of them is no longer in memory."""
        events = self._events[partition]
        if not events or events[0].seq > seq + 1:
            return None
        skipped = seq + 1 - events[0].seq
        # By index, which is fast near both ends of a deque: most readers have missed little.
        return [events[index] for index in range(skipped, min(skipped + limit, len(events)))]

    def clear(self) -> None:
        """Drops all events."""
        for events in self._events:
            events.clear()
        self._sizes = [0] * len(self._sizes)


class Hub:
    """The position up to which events are published, the recent events, and the subscribers."""

    def __init__(
        self,
        partitions: int,
        recent_bytes: int,
        encode_position: Callable[[Position], str] = encode_cursor,
    ) -> None:
        self.recent_events = RecentEvents(partitions, recent_bytes)
        self.seqs: list[int] = []
        """The newest published event of each partition. Empty until `start`."""
        self.log_start: Position | None = None
        """Where the log begins, as of the last check. None: not checked yet."""
        self.generation = 0
        """Increases when the log is replaced: a reader of an earlier generation must start again."""
        self.on_erased: Callable[[Erased], None] = lambda _: None
        """Called when events say that customers were erased."""
        self._encode_position = encode_position
        self._epoch = ""
        self._first_partitions = 0
        self._cursor: str | None = None
        self._groups = GroupIndex()
        self._pending_groups: set[SubscriberGroup] = set()
        self._pending_bytes = 0
        self._flushed = asyncio.Event()

    @property
    def is_started(self) -> bool:
        """True once a position is known; clients can be served then."""
        return bool(self.seqs)

    @property
    def position(self) -> Position:
        """The position up to which events are published."""
        return Position(self._epoch, tuple(self.seqs), self._first_partitions)

    @property
    def cursor(self) -> str:
        """The position as a cursor."""
        if self._cursor is None:
            self._cursor = self.cursor_of(self.seqs)
        return self._cursor

    def cursor_of(self, seqs: Iterable[int]) -> str:
        """The cursor of another position in the same log."""
        return self._encode_position(Position(self._epoch, tuple(seqs)))

    def add_partitions(self, partitions: int) -> None:
        """Has so many partitions from now on; nothing of the new ones is published yet."""
        if partitions > len(self.seqs):
            self.seqs += [0] * (partitions - len(self.seqs))
            self.recent_events.add_partitions(partitions)
            self._cursor = None

    def start(self, position: Position) -> None:
        """Starts at a position. If the hub had started before, the log was replaced: every subscriber is
        notified.
        """
        self._epoch, self.seqs = position.epoch, list(position.seqs)
        self._first_partitions = position.first_partitions
        self._cursor = None
        self.generation += 1
        self.recent_events.clear()
        self.recent_events.add_partitions(len(self.seqs))
        self._pending_groups.clear()
        self._pending_bytes = 0
        for group in self._groups:
            group.pending.clear()
            for subscriber in group.subscribers:
                subscriber.on_log_replaced()
        self._notify_flushed()

    def publish(self, events: Iterable[Event]) -> None:
        """Accepts the events that follow the position, in the order of their partition. The next `flush`
        sends them; the caller must flush before it waits for anything.
        """
        erased: Erased = {}
        for event in events:
            self.seqs[event.partition] = event.seq
            self._cursor = None
            self.recent_events.add(event)
            if event.erases:
                erased[event.order_id] = event.erased_at
            self._pending_bytes += len(event.full)
            for group in self._groups.matching(event):
                group.pending.append(event.encoded(with_customer=group.with_customer))
                self._pending_groups.add(group)
            if self._pending_bytes >= MAX_STREAM_MESSAGE_BYTES:
                self.flush()
        if erased:
            self.recent_events.erase(erased)
            self.on_erased(erased)

    def flush(self) -> None:
        """Sends the accepted events: one message for each group, whose cursor is the current position."""
        groups, self._pending_groups = self._pending_groups, set()  # `unsubscribe` changes the set meanwhile
        self._pending_bytes = 0
        for group in groups:
            frame = group.framing(events_message(group.pending, self.cursor))
            sinks = group.sinks
            MESSAGES.inc(len(sinks))
            DELIVERED.inc(len(sinks) * len(group.pending))
            count, group.pending = len(group.pending), []
            # A hundred thousand times a second: no state of the connection is checked here. A connection
            # that closes or pauses changes its group or its sink by itself.
            for sink in sinks:
                sink.write(frame)
            group.events_sent += count  # afterwards: a connection that falls behind here has not got them
        self._notify_flushed()

    def audience_size(self, event: Event) -> int:
        """The number of live connections that get an event."""
        return sum(len(group.sinks) for group in self._groups.matching(event))

    def subscribe(
        self, subscriber: Subscriber, audience: Audience, framing: Framing = websocket_frame
    ) -> SubscriberGroup:
        """Makes a connection live. It must have received everything up to the position."""
        self.flush()
        group = self._groups.get_or_create(audience, framing)
        group.add(subscriber)
        return group

    def unsubscribe(self, subscriber: Subscriber, group: SubscriberGroup) -> None:
        """The reverse of `subscribe`."""
        group.remove(subscriber)
        if group.is_empty:
            self._pending_groups.discard(group)
            self._groups.discard(group)

    async def wait_for_flush(self) -> None:
        """Returns after the next flush."""
        await self._flushed.wait()

    def _notify_flushed(self) -> None:
        self._flushed.set()
        self._flushed = asyncio.Event()
