"""The feed: publishes every event of the log to the hub, once and in order, even if the broker loses some.

The broker delivers events fast; the log has all of them. Missed events are found by a gap in the sequence
numbers, by comparing with the log after each connection to the broker, and by a periodic check of the end of
the log (`LogCheck`). They are read from the log. Without a broker, that check alone drives the feed.
"""

import logging
from asyncio import Future, get_running_loop, sleep, timeout
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import groupby
from operator import attrgetter
from time import monotonic, perf_counter
from typing import TypeVar

from tenacity import wait_random_exponential

from tracking_notifier.errors import UndecodableEvents
from tracking_notifier.hub import Hub
from tracking_notifier.log.event_log import EventLog, LogCheck
from tracking_notifier.log.push_spans import PushSpans
from tracking_notifier.metrics import CONNECTED, FEED_EVENTS, SILENCES, UNDECODABLE
from tracking_notifier.stream.events import Event, FetchRange, decode_events, lagging_partitions, plan_batch
from tracking_notifier.stream.stream_messages import MAX_STREAM_MESSAGE_BYTES
from tracking_shared.contracts.cursors import Position, resync_reason
from tracking_shared.contracts.layout import padded
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.messaging.connection import Connection
from tracking_shared.messaging.consumer import Consumer, Delivery
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.messaging.topology import EVENTS_EXCHANGE
from tracking_shared.serving import background
from tracking_shared.storage.database import DatabaseUnavailable, retrying_database
from tracking_shared.telemetry.spans import Spans

log = logging.getLogger(__name__)

T = TypeVar("T")

PAUSE_FACTOR = 3.0
"""The feed pauses so many times as long as its flushes take: they get a quarter of the time, and events that
arrive meanwhile share a message. A flush to one dashboard takes 50 µs, to a thousand 7 ms, nearly all of it
in the kernel, one write per client. At 200 events a second this saves 1.7 of 2.7 µs per event and client."""

BURST_SECONDS = 0.05
"""The feed pauses only for the pause time beyond this: single events, 40 ms apart, to a thousand dashboards
are not delayed."""

MAX_PAUSE_SECONDS = 0.05

IDLE_SECONDS = 0.25
"""The longest wait for the broker before the feed applies the check of the log again."""

SILENT_CHECKS = 5
"""Checks that found missed events while the broker delivered none at all. A broken node may still answer
heartbeats; another node may deliver, so the feed connects anew."""

STALE_SECONDS = 10.0
"""After this time without broker and database, or with missed events that cannot be read, clients no longer
see live data. It is longer than a retry or an election takes."""

QUEUE_MESSAGES = 1000
"""Limit of our broker queue; a message has at most 1 MiB. Dropped ones are read from the log."""

DELIVERIES_AT_ONCE = 20

_SHORT_WAITS = wait_random_exponential(multiplier=0.1, max=1)
"""Every client waits for this one reader."""


class FlushThrottle:
    """Computes the pause after each flush. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._owed = 0.0
        self._flushed_at = 0.0

    def pause_after(self, began_at: float, flushed_at: float) -> float:
        """The pause after the flush between these times, at most `MAX_PAUSE_SECONDS`."""
        paused = began_at - self._flushed_at
        self._flushed_at = flushed_at
        owed = max(self._owed - paused, 0.0) + PAUSE_FACTOR * (flushed_at - began_at)
        self._owed = min(owed, BURST_SECONDS + MAX_PAUSE_SECONDS)
        return max(self._owed - BURST_SECONDS, 0.0)


class BrokerSource:
    """The consumer of one connection to the broker, until it fails."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self.fault: Future[BrokerUnavailable] = get_running_loop().create_future()
        """Set when the connection cannot be used any more."""
        self.is_aligned = False
        """True once the events from before the binding of the queue have been read from the log."""
        self._silent_checks = 0

    async def receive(self) -> list[Delivery]:
        """The deliveries that arrive within `IDLE_SECONDS`."""
        try:
            async with timeout(IDLE_SECONDS):
                deliveries = await self._consumer.next_batch(DELIVERIES_AT_ONCE)
        except TimeoutError:
            return []
        if not deliveries:
            self.fail(BrokerUnavailable("the connection was lost"))
        return deliveries

    async def acknowledge(self, deliveries: list[Delivery]) -> None:
        """Acknowledges all of these."""
        if not deliveries:
            return
        self._silent_checks = 0
        try:
            await deliveries[-1].acknowledge_through()
        except BrokerUnavailable as error:
            self.fail(error)

    def record_check(self, *, found_missed: bool) -> None:
        """Counts a check of the log that found events which the broker should have delivered. Fails after
        `SILENT_CHECKS` of them.
        """
        self._silent_checks += found_missed
        if self._silent_checks >= SILENT_CHECKS and not self.fault.done():
            SILENCES.inc()
            self.fail(BrokerUnavailable("it delivers nothing, though the log grows"))

    def fail(self, fault: BrokerUnavailable) -> None:
        """Gives up the connection."""
        if not self.fault.done():
            self.fault.set_result(fault)


class Feed:
    """Keeps the hub at the end of the log, as long as there is a broker or a database."""

    def __init__(
        self,
        hub: Hub,
        event_log: EventLog,
        workflow: Workflow,
        partitions: int,
        prepare: Callable[[str], Awaitable[None]],
        *,
        spans: Spans | None = None,
    ) -> None:
        """`prepare` is called with the epoch of a log before the hub starts with it."""
        self._hub = hub
        self._log = event_log
        self._workflow = workflow
        self._partitions = partitions
        self._prepare = prepare
        self._push_spans = None if spans is None else PushSpans(spans, hub)
        self._log_check = LogCheck(hub, event_log, partitions)
        self._throttle = FlushThrottle()
        self._source: BrokerSource | None = None
        self._broker_fault = BrokerUnavailable("not connected")
        """The reason why there is no source."""
        self._read_fault: DatabaseUnavailable | None = None
        """The failure of the last read of the log. Nothing is published until a read succeeds."""
        self._reads_failing_since = 0.0

    async def check_broker(self) -> None:
        """Raises `BrokerUnavailable` while events come only from the log."""
        if self._source is None:
            raise self._broker_fault.with_traceback(None)  # else the traceback grows with every request

    async def check_log(self) -> None:
        """Raises `DatabaseUnavailable` until the hub has a position, and while missed events cannot be read;
        `LogIncomplete` if they are not in the log.
        """
        if self._read_fault is not None:
            raise self._read_fault.with_traceback(None)
        if not self._hub.is_started:
            raise DatabaseUnavailable("no position yet")

    def is_live(self) -> bool:
        """True if new events reach the clients. False after `STALE_SECONDS` without broker and database, or
        with missed events that cannot be read.
        """
        now = monotonic()
        if self._read_fault is not None and now - self._reads_failing_since > STALE_SECONDS:
            return False
        return self._source is not None or now - self._log_check.checked_at < STALE_SECONDS

    def record_broker_fault(self, fault: BrokerUnavailable) -> None:
        """Records the reason why there is no connection to the broker."""
        self._broker_fault = fault

    async def serve(self, connection: Connection) -> None:
        """Receives the events of this connection until it fails.

        Raises:
            BrokerUnavailable: always in the end.
        """
        _, consumer = await connection.with_declared(
            self._partitions, partial(connection.private_consumer, EVENTS_EXCHANGE, limit=QUEUE_MESSAGES)
        )
        connection.in_service = True
        self._log_check.take_latest()  # a check from before the binding may miss events announced before it
        self._source = source = BrokerSource(consumer)
        CONNECTED.set(1)
        try:
            raise await source.fault
        finally:
            self._source = None
            CONNECTED.set(0)

    async def run(self) -> None:
        """Feeds the hub until it is cancelled: from the broker if it is connected, and from the log."""
        await self._align_with_log()
        async with background(self._log_check.run()):
            while True:
                source = self._source
                if source is None or source.fault.done():
                    deliveries = []
                    await sleep(IDLE_SECONDS)
                else:
                    deliveries = await source.receive()
                pause_seconds = await self._publish_all(deliveries)
                if source is not None:
                    await source.acknowledge(deliveries)
                await self._apply_log_check(source)
                if len(deliveries) < DELIVERIES_AT_ONCE:
                    await sleep(pause_seconds)

    async def _publish_all(self, deliveries: list[Delivery]) -> float:
        """Publishes the events of all deliveries. Returns the pause that should follow, in seconds."""
        published_bytes = 0
        for delivery in deliveries:
            await self._publish_delivery(delivery)
            published_bytes += len(delivery.body)
            if published_bytes >= MAX_STREAM_MESSAGE_BYTES:
                self._hub.flush()
                await sleep(0)  # lets the event loop write to the sockets and read from the clients
                published_bytes = 0
        began_at = perf_counter()
        self._hub.flush()
        if self._push_spans is not None:
            self._push_spans.end()
        return self._throttle.pause_after(began_at, perf_counter())

    async def _publish_delivery(self, delivery: Delivery) -> None:
        try:
            events = decode_events(delivery.body, self._workflow, delivery.headers)
        except UndecodableEvents as error:
            # If it announced events, they are missing now and will be read from the log.
            log.warning("message dropped: %s", error)
            UNDECODABLE.inc()
            return
        if self._push_spans is not None:
            self._push_spans.begin(delivery, events)
        for partition, batch in groupby(events, attrgetter("partition")):
            await self._publish_batch(partition, list(batch))

    async def _publish_batch(self, partition: int, events: list[Event]) -> None:
        if partition >= len(self._hub.seqs):
            # The number of partitions was changed. The log says which there are, surely as of now.
            self._hub.add_partitions(
                len((await self._retry(partial(self._read_end_with, partition, 1))).seqs)
            )
            if partition >= len(self._hub.seqs):
                log.error("message dropped: the log has no partition %d", partition)
                UNDECODABLE.inc()
                return
        for step in plan_batch(self._hub.seqs[partition], [event.seq for event in events]):
            if isinstance(step, FetchRange):
                self._hub.flush()
                end = await self._retry(partial(self._read_end_with, partition, step.last))
                if step.last > end.seqs[partition]:
                    # Only committed events are announced, so this message is not one of order-state's.
                    log.error(
                        "message dropped: partition %d of the log has no event %d", partition, step.last
                    )
                    UNDECODABLE.inc()
                    return
                if not await self._publish_from_log(partition, step.last):
                    await self._publish_batch(partition, events)
                    return
            else:
                FEED_EVENTS.labels("broker").inc(step.stop - step.start)
                self._hub.publish(events[step.start : step.stop])

    async def _read_end_with(self, partition: int, seq: int) -> Position:
        """Reads the end of the log. If it is before this event, the answer is certain to be recent."""
        seqs = list(padded(self._hub.seqs, partition + 1))
        seqs[partition] = seq
        return await self._log.read_end_to_resume(Position(self._hub.position.epoch, tuple(seqs)))

    async def _align_with_log(self) -> None:
        """Brings the hub to the end of the log, or restarts it if the log was replaced."""
        if not self._hub.is_started:
            await self._start_hub(await self._retry(self._log.read_end))
            return
        end = await self._retry(partial(self._log.read_end_to_resume, self._hub.position))
        if resync_reason(self._hub.position, end) is not None:
            log.error("the log was replaced or set back: every client is resynchronised")
            await self._start_hub(end)
        else:
            await self._publish_missed(end)

    async def _start_hub(self, position: Position) -> None:
        await self._retry(partial(self._prepare, position.epoch))
        self._hub.start(position)

    async def _apply_log_check(self, source: BrokerSource | None) -> None:
        if self._log_check.is_replaced:
            self._log_check.reset()
            await self._align_with_log()
        elif source is None or not source.is_aligned:
            # The new queue has the events that were announced after its binding, the log those before.
            if (latest := self._log_check.take_latest()) is not None:
                await self._publish_missed(latest)
                if source is not None:
                    source.is_aligned = True
        elif (end := self._log_check.take_end_before()) is not None:
            source.record_check(found_missed=await self._publish_missed(end))

    async def _publish_missed(self, end: Position) -> bool:
        """Publishes the events up to `end` that the hub does not have. Returns True if there were any."""
        self._hub.add_partitions(len(end.seqs))
        partitions = lagging_partitions(self._hub.seqs, end.seqs)
        for partition in partitions:
            await self._publish_from_log(partition, end.seqs[partition])
        return bool(partitions)

    async def _publish_from_log(self, partition: int, last: int) -> bool:
        """Reads the events up to `last` that the hub does not have, and publishes them. Returns False if some
        of them were archived: then the hub has begun anew at the end of the log.
        """
        while (published := self._hub.seqs[partition]) < last:
            events = await self._retry(partial(self._log.read_page, partition, published, last))
            if not events or events[0].seq != published + 1:
                log.error("events were archived before they were published: every client is resynchronised")
                await self._start_hub(await self._retry(self._log.read_end))
                return False
            FEED_EVENTS.labels("log").inc(len(events))
            self._hub.publish(events)
            self._hub.flush()
        return True

    async def _retry(self, read: Callable[[], Awaitable[T]]) -> T:
        """Reads until the database answers: nothing can be published before."""
        async for attempt in retrying_database().copy(wait=_SHORT_WAITS):
            with attempt:
                try:
                    result = await read()
                except DatabaseUnavailable as error:
                    if self._read_fault is None:
                        self._reads_failing_since = monotonic()
                    self._read_fault = error
                    raise
                self._read_fault = None
                return result
        raise AssertionError("retries have no end")
