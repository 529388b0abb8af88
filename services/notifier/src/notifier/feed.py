"""The feed: every event of the log to the hub, once and in order, whatever the broker loses.

The broker brings events quickly; the log has them surely. A jump in the sequence numbers, a new
connection, and the watch on the end of the log show what was missed. Without a broker the log is followed by
that watch alone.
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

from notifier.events import Event, UndecodableEvents, decode_events
from notifier.hub import Hub
from notifier.log import EventLog
from notifier.metrics import CONNECTED, TAKEN, UNDECODABLE
from notifier.pace import Pace
from notifier.positions import Fetch, behind, plan, unjoinable_because
from notifier.protocol import MAX_MESSAGE_BYTES
from notifier.watch import LogWatch
from shared.broker import BrokerUnavailable, Connection, Consumer, Delivery
from shared.cursors import Position
from shared.database import DatabaseUnavailable, retrying_database
from shared.serving import background
from shared.topology import EVENTS_EXCHANGE
from shared.workflow import Workflow

log = logging.getLogger(__name__)

T = TypeVar("T")

IDLE_SECONDS = 0.25
"""How long the feed waits for the broker before it asks the watch again."""

SILENT_LOOKS = 5
"""Looks at the log that found events which should have come, while the broker brought none at all. A node
that is half dead goes on answering heartbeats; a connection to another one may bring them."""

STALE_SECONDS = 10.0
"""Without a sign from broker or database, or with something missed that cannot be read: longer than a retry
or an election takes. What clients see is not live any more then."""

QUEUE_MESSAGES = 1000
"""Waiting in our broker queue; at most 1 MiB each. What is dropped beyond that is read from the log."""

DELIVERIES_AT_ONCE = 20

_SHORT_WAITS = wait_random_exponential(multiplier=0.1, max=1)
"""Every client waits for this one reader."""


class Feed:
    """Keeps the hub at the end of the log while there is a broker and a database."""

    def __init__(
        self,
        hub: Hub,
        event_log: EventLog,
        workflow: Workflow,
        partitions: int,
        prepare: Callable[[str], Awaitable[None]],
    ) -> None:
        """`prepare` is called with the epoch of a log before the hub begins with it."""
        self._hub = hub
        self._log = event_log
        self._workflow = workflow
        self._partitions = partitions
        self._prepare = prepare
        self._watch = LogWatch(hub, event_log)
        self._pace = Pace()
        self._source: _Source | None = None
        self._broker_fault = BrokerUnavailable("not connected")
        """Why there is no source."""
        self._obstacle: DatabaseUnavailable | None = None
        """Why the log could not be read at the last attempt: nothing is delivered until it can be."""
        self._hindered_since = 0.0

    async def check_broker(self) -> None:
        """Raises `BrokerUnavailable` while events come only from the log, and not from the broker."""
        if self._source is None:
            raise self._broker_fault.with_traceback(None)  # else it would grow with every request

    async def check_log(self) -> None:
        """Raises `DatabaseUnavailable` until a position in the log is known to begin at, and while what was
        missed cannot be read; `LogIncomplete` if it is not there.
        """
        if self._obstacle is not None:
            raise self._obstacle.with_traceback(None)
        if not self._hub.started:
            raise DatabaseUnavailable("no position yet")

    @property
    def is_live(self) -> bool:
        """Whether new events reach the clients: not after `STALE_SECONDS` without broker and database, nor
        as long before something that cannot be read.
        """
        now = monotonic()
        if self._obstacle is not None and now - self._hindered_since > STALE_SECONDS:
            return False
        return self._source is not None or now - self._watch.looked_at < STALE_SECONDS

    def lost(self, fault: BrokerUnavailable) -> None:
        """Takes note of why there is no connection."""
        self._broker_fault = fault

    async def serve(self, connection: Connection) -> None:
        """Has the events of this connection taken for as long as it lasts.

        Raises:
            BrokerUnavailable: always in the end.
        """
        _, consumer = await connection.with_declared(
            self._partitions, partial(connection.private_consumer, EVENTS_EXCHANGE, limit=QUEUE_MESSAGES)
        )
        connection.in_service = True
        self._watch.take_latest()  # a look from before the binding may miss what was announced before it
        self._source = source = _Source(consumer)
        CONNECTED.set(1)
        try:
            raise await source.fault
        finally:
            self._source = None
            CONNECTED.set(0)

    async def run(self) -> None:
        """Feeds the hub until it is cancelled: from the broker while there is one, and from the log."""
        await self._align()
        async with background(self._watch.run()):
            while True:
                source = self._source
                deliveries = await _arrivals(source)
                rest_seconds = await self._take_all(deliveries)
                if source is not None:
                    await source.acknowledge(deliveries)
                await self._apply_log_check(source)
                if len(deliveries) < DELIVERIES_AT_ONCE:
                    await sleep(rest_seconds)

    async def _take_all(self, deliveries: list[Delivery]) -> float:
        """Returns how long to rest then, in seconds."""
        taken_bytes = 0
        for delivery in deliveries:
            await self._take(delivery)
            taken_bytes += len(delivery.body)
            if taken_bytes >= MAX_MESSAGE_BYTES:
                self._hub.flush()
                await sleep(0)  # lets the sockets be written and the clients be heard
                taken_bytes = 0
        began_at = perf_counter()
        self._hub.flush()
        return self._pace.rest_after(began_at, perf_counter())

    async def _take(self, delivery: Delivery) -> None:
        try:
            events = decode_events(delivery.body, self._workflow, self._partitions)
        except UndecodableEvents as error:
            # Whatever it was meant to announce is missing now, and will be read from the log.
            log.warning("message dropped: %s", error)
            UNDECODABLE.inc()
            return
        for partition, of_one in groupby(events, attrgetter("partition")):
            await self._take_events(partition, list(of_one))

    async def _take_events(self, partition: int, events: list[Event]) -> None:
        for step in plan(self._hub.position[partition], [event.seq for event in events]):
            if isinstance(step, Fetch):
                self._hub.flush()
                heads = await self._patiently(partial(self._heads_at, partition, step.through))
                if step.through > heads.seqs[partition]:
                    # Only what is committed is ever announced, so this message is none of order-state's.
                    log.error("partition %d: the log has no event %d", partition, step.through)
                    UNDECODABLE.inc()
                    return
                await self._fill(partition, step.through)
            else:
                TAKEN.labels("broker").inc(step.stop - step.start)
                self._hub.publish(events[step.start : step.stop])

    async def _heads_at(self, partition: int, seq: int) -> Position:
        """The end of the log, surely so if it is before this event."""
        seqs = list(self._hub.position)
        seqs[partition] = seq
        return await self._log.heads_to_join(Position(self._hub.head.epoch, tuple(seqs)))

    async def _align(self) -> None:
        """Brings the hub to the end of the log; to that of another log, if it was replaced."""
        if not self._hub.started:
            await self._begin(await self._patiently(self._log.heads))
            return
        heads = await self._patiently(partial(self._log.heads_to_join, self._hub.head))
        if unjoinable_because(self._hub.head, heads) is not None:
            log.error("the log was replaced or set back: every client starts anew")
            await self._begin(heads)
        else:
            await self._fill_through(heads)

    async def _begin(self, position: Position) -> None:
        await self._patiently(partial(self._prepare, position.epoch))
        self._hub.start(position)

    async def _apply_log_check(self, source: "_Source | None") -> None:
        if self._watch.replaced:
            self._watch.forget()
            await self._align()
        elif source is None or not source.is_aligned:
            # What is announced after the binding of a new queue waits in it, what was before is in the log.
            if (latest := self._watch.take_latest()) is not None:
                await self._fill_through(latest)
                if source is not None:
                    source.is_aligned = True
        elif (overdue := self._watch.take_overdue()) is not None:
            source.count_look(found=await self._fill_through(overdue))

    async def _fill_through(self, position: Position) -> bool:
        """Returns whether there was anything that the hub had not got."""
        missed = behind(self._hub.position, position.seqs)
        for partition in missed:
            await self._fill(partition, position.seqs[partition])
        return bool(missed)

    async def _fill(self, partition: int, through: int) -> None:
        """Delivers from the log what is missing up to `through`."""
        while (last := self._hub.position[partition]) < through:
            events = await self._patiently(partial(self._log.page, partition, last, through))
            TAKEN.labels("log").inc(len(events))
            self._hub.publish(events)
            self._hub.flush()

    async def _patiently(self, read: Callable[[], Awaitable[T]]) -> T:
        """Reads, however long the database is away: nothing can be delivered meanwhile anyway."""
        async for attempt in retrying_database().copy(wait=_SHORT_WAITS):
            with attempt:
                try:
                    result = await read()
                except DatabaseUnavailable as error:
                    if self._obstacle is None:
                        self._hindered_since = monotonic()
                    self._obstacle = error
                    raise
                self._obstacle = None
                return result
        raise AssertionError("retries have no end")


class _Source:
    """Where the broker's events come from, until something is wrong with it."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.fault: Future[BrokerUnavailable] = get_running_loop().create_future()
        """Set when the connection is of no use any more."""
        self.is_aligned = False
        """Whether what was committed before the queue was bound has been read from the log."""
        self._silent_looks = 0

    async def acknowledge(self, deliveries: list[Delivery]) -> None:
        """Acknowledges all that were taken."""
        if not deliveries:
            return
        self._silent_looks = 0
        try:
            await deliveries[-1].acknowledge_through()
        except BrokerUnavailable as error:
            self.fail(error)

    def count_look(self, *, found: bool) -> None:
        """Takes note of a look at the log: whether it found events that should have come."""
        self._silent_looks += found
        if self._silent_looks >= SILENT_LOOKS:
            self.fail(BrokerUnavailable("it brings nothing, though the log goes on"))

    def fail(self, fault: BrokerUnavailable) -> None:
        """Gives the connection up."""
        if not self.fault.done():
            self.fault.set_result(fault)


async def _arrivals(source: _Source | None) -> list[Delivery]:
    """What has arrived from the broker within `IDLE_SECONDS`."""
    if source is None or source.fault.done():
        await sleep(IDLE_SECONDS)
        return []
    try:
        async with timeout(IDLE_SECONDS):
            deliveries = await source.consumer.next_batch(DELIVERIES_AT_ONCE)
    except TimeoutError:
        return []
    if not deliveries:
        source.fail(BrokerUnavailable("the connection was lost"))
    return deliveries
