"""Brings one client from its position to the hub's: a snapshot or a resume, then the missed events. No
connection in here: it yields messages, and the caller sets the pace.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import orjson

from tracking_notifier.errors import HubLagging, LogReplaced, PositionExpired
from tracking_notifier.hub import Hub
from tracking_notifier.log.event_log import PAGE_EVENTS, EventLog
from tracking_notifier.log.shared_pages import SharedPages
from tracking_notifier.metrics import REPLAYED, RESYNCS, SNAPSHOT_ORDERS
from tracking_notifier.stream.events import Event, has_reached, lagging_partitions
from tracking_notifier.stream.filters import Audience, matching_events
from tracking_notifier.stream.stream_messages import (
    MAX_STREAM_MESSAGE_BYTES,
    ResyncReason,
    ServerMessage,
    events_message,
    resync_message,
    snapshot_message,
)
from tracking_shared.contracts.cursors import RESYNC_CURSOR, Position, is_before, resync_reason
from tracking_shared.contracts.documents import OrderDocument
from tracking_shared.contracts.layout import padded
from tracking_shared.contracts.messages import order_view
from tracking_shared.contracts.workflow import Workflow

MAX_LAG_SECONDS = 15
"""The longest wait for a hub that is behind the client: longer than a reconnect to the broker takes."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """The request of a client: its audience, and the position to start from."""

    audience: Audience
    after: Position | None
    snapshot: bool
    resync_reason: ResyncReason | None = None
    """If set, the client must discard its orders and gets a snapshot."""
    heartbeat: bool = False
    """True if the client asked for heartbeats."""
    resumes_from_every_cursor: bool = False
    """True if the client reconnects with the cursor of the last message, whichever that was."""


@dataclass(slots=True)
class StreamCounts:
    """The messages to one connection, counted for its line in the log."""

    events: int = 0
    resyncs: int = 0


@dataclass(slots=True)
class CatchUp:
    """The catching up of one subscription. `messages` may be called once."""

    subscription: Subscription
    hub: Hub
    log: EventLog
    pages: SharedPages
    workflow: Workflow
    counts: StreamCounts = field(default_factory=StreamCounts)
    _seqs: list[int] = field(default_factory=list)
    """The position of the client after the messages so far."""
    _snapshot_versions: dict[str, int] = field(default_factory=dict)
    """The versions in the snapshot, by order id: older events are skipped."""
    _target: tuple[int, ...] = ()
    _generation: int = 0

    async def messages(self) -> AsyncGenerator[ServerMessage, None]:
        """Yields all messages before `live`. At the end the client is at the hub's position, until the caller
        waits for something.

        Raises:
            HubLagging, LogReplaced, PositionExpired: the client cannot become live now and should reconnect.
            DatabaseUnavailable: missed events or orders cannot be read now.
        """
        if not self.hub.is_started:
            raise HubLagging("the log's position is not known yet")
        # The position is taken before the data is read: changes in between are repeated, not lost.
        self._generation = self.hub.generation
        start = self.hub.position
        reason = await self._resync_reason() or self.subscription.resync_reason
        if self.subscription.snapshot or reason is not None:
            async for message in self._begin_with_snapshot(start, reason):
                yield message
        else:
            self._begin_at(self.subscription.after or start)
        try:
            async for message in self._until_hub_position():
                yield message
        except PositionExpired:  # events that the client misses were archived meanwhile
            async for message in self._begin_with_snapshot(self.hub.position, "position-expired"):
                yield message
            async for message in self._until_hub_position():
                yield message

    async def _begin_with_snapshot(
        self, start: Position, reason: ResyncReason | None
    ) -> AsyncGenerator[ServerMessage, None]:
        if reason is not None:
            yield self._resync_message(reason, start)
        self._begin_at(start)
        async for message in self._snapshot():
            yield message

    def _begin_at(self, start: Position) -> None:
        self._seqs, self._target = list(start.seqs), start.seqs

    def _resync_message(self, reason: ResyncReason, start: Position) -> ServerMessage:
        RESYNCS.labels(reason).inc()
        self.counts.resyncs += 1
        return resync_message(reason, self._resync_cursor(start))

    def _resync_cursor(self, start: Position) -> str:
        if self.subscription.resumes_from_every_cursor:
            # Until its snapshot is complete, the client must not resume, but be resynchronised again.
            return RESYNC_CURSOR
        return self.hub.cursor_of(start.seqs)

    async def _resync_reason(self) -> ResyncReason | None:
        after = self.subscription.after
        if after is None or self.subscription.snapshot:
            return None
        # Usually the client is behind this hub, and the database is not needed.
        if resync_reason(after, self.hub.position) is not None:
            end = self._in_same_log(await self.log.read_end_to_resume(after))
            if (reason := resync_reason(after, end)) is not None:
                return reason
        start = self.hub.log_start
        is_expired = start and start.epoch == after.epoch and is_before(after, start)
        return "position-expired" if is_expired else None

    async def _snapshot(self) -> AsyncGenerator[ServerMessage, None]:
        # The hub's position comes from the broker. Events before it are not sent again, so the orders must
        # not be older.
        await self.log.advance_to(self.hub.position)
        parts: list[bytes] = []
        size = 0
        async for page in self.log.read_snapshot(self.subscription.audience):
            for order in page:
                parts.append(self._encode_order(order))
                size += len(parts[-1])
                if size >= MAX_STREAM_MESSAGE_BYTES:
                    yield snapshot_message(parts, more=True)
                    parts, size = [], 0
        yield snapshot_message(parts, more=False)
        # The snapshot may be ahead of the hub. Until the hub has reached the end of the log as it is now, its
        # events may be in the snapshot already.
        self._target = self._in_same_log(await self.log.read_end()).seqs

    def _encode_order(self, order: OrderDocument) -> bytes:
        versions = self._snapshot_versions
        versions[order["_id"]] = max(order["version"], versions.get(order["_id"], 0))
        SNAPSHOT_ORDERS.inc()
        with_customer = self.subscription.audience.with_customer
        return orjson.dumps(order_view(order, self.workflow, with_customer=with_customer))

    async def _until_hub_position(self) -> AsyncGenerator[ServerMessage, None]:
        while True:
            self._check_generation()
            self._seqs = list(padded(self._seqs, len(self.hub.seqs)))
            partitions = lagging_partitions(self._seqs, self.hub.seqs)
            if partitions:
                async for message in self._missed_events(partitions):
                    yield message
                await asyncio.sleep(0)  # many events, all of them in memory, must not block other connections
            elif has_reached(self.hub.seqs, self._target):
                return
            else:
                await self._wait_for_hub()

    async def _missed_events(self, partitions: list[int]) -> AsyncGenerator[ServerMessage, None]:
        """Yields one page of events of each of these partitions, in few messages of limited size."""
        parts: list[bytes] = []
        size = 0
        for partition in partitions:
            page = await self._next_page(partition)
            for event in self._matching_events(page):
                self._seqs[partition] = event.seq
                parts.append(event.encoded(with_customer=self.subscription.audience.with_customer))
                size += len(parts[-1])
                if size >= MAX_STREAM_MESSAGE_BYTES:
                    yield self._events_message(parts)
                    parts, size = [], 0
            self._seqs[partition] = page[-1].seq
        if parts:
            yield self._events_message(parts)

    async def _next_page(self, partition: int) -> list[Event]:
        seq = self._seqs[partition]
        recent = self.hub.recent_events.after(partition, seq, PAGE_EVENTS)
        if recent is not None:
            return recent
        events = await self.pages.read_after(self._generation, partition, seq, self.hub.seqs[partition])
        self._check_generation()
        return events

    def _matching_events(self, page: list[Event]) -> list[Event]:
        events = matching_events(page, self.subscription.audience)
        if not self._snapshot_versions:
            return events
        return [event for event in events if event.version > self._snapshot_versions.get(event.order_id, 0)]

    def _events_message(self, parts: list[bytes]) -> ServerMessage:
        REPLAYED.inc(len(parts))
        self.counts.events += len(parts)
        return events_message(parts, self.hub.cursor_of(self._seqs))

    def _in_same_log(self, end: Position) -> Position:
        if end.epoch != self.hub.position.epoch:
            raise LogReplaced("the log was replaced, and the hub will notice in a moment")
        return end

    def _check_generation(self) -> None:
        if self.hub.generation != self._generation:
            raise LogReplaced("the log was replaced while a client caught up")

    async def _wait_for_hub(self) -> None:
        try:
            async with asyncio.timeout(MAX_LAG_SECONDS):
                await self.hub.wait_for_flush()
        except TimeoutError:
            raise HubLagging(f"no event within {MAX_LAG_SECONDS} s though the log has more") from None
