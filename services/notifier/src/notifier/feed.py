"""The feed: every event of the log to the hub, once and in order, whatever the broker loses.

The broker brings events quickly; the log has them surely. A jump in the sequence numbers, a new
connection, and the watch on the end of the log show what was missed.
"""

import logging
from asyncio import sleep, timeout
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from itertools import groupby
from operator import attrgetter
from time import perf_counter
from typing import TypeVar

from tenacity import wait_random_exponential

from notifier.events import Event, UndecodableEvents, decode_events
from notifier.hub import Hub
from notifier.log import EventLog
from notifier.metrics import TAKEN, UNDECODABLE
from notifier.pace import Pace
from notifier.positions import Fetch, plan, unjoinable_because
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
        self._pace = Pace()
        self._connected = False
        self._obstacle: DatabaseUnavailable | None = None
        """Why the log could not be read at the last attempt: nothing is delivered until it can be."""

    async def check_broker(self) -> None:
        """Raises `BrokerUnavailable` while events do not arrive from the broker."""
        if not self._connected:
            raise BrokerUnavailable("not connected")

    async def check_log(self) -> None:
        """Raises `DatabaseUnavailable` until a position in the log is known to begin at, and while what was
        missed cannot be read; `LogIncomplete` if it is not there.
        """
        if self._obstacle is not None:
            raise self._obstacle.with_traceback(None)  # else it would grow with every request
        if not self._hub.started:
            raise DatabaseUnavailable("no position yet")

    async def serve(self, connection: Connection) -> None:
        """Feeds the hub for as long as the connection lasts.

        Raises:
            BrokerUnavailable: always in the end.
        """
        await connection.ensure(self._partitions)
        _, consumer = await connection.private_consumer(EVENTS_EXCHANGE, limit=QUEUE_MESSAGES)
        self._connected = True
        try:
            # Only now: what is announced after the binding waits in the queue, what was before is in the log.
            await self._align()
            watch = LogWatch(self._hub, self._log)
            async with background(watch.run()):
                await self._consume(consumer, watch)
        finally:
            self._connected = False

    async def _consume(self, consumer: Consumer, watch: LogWatch) -> None:
        while True:
            deliveries = []
            with suppress(TimeoutError):
                async with timeout(IDLE_SECONDS):
                    deliveries = await consumer.next_batch(DELIVERIES_AT_ONCE)
                if not deliveries:
                    raise BrokerUnavailable("the connection was lost")
            rest_seconds = await self._take_all(deliveries)
            await self._heed(watch)
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
        rest_seconds = self._pace.rest_after(began_at, perf_counter())
        if deliveries:
            await deliveries[-1].acknowledge_through()
        return rest_seconds

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

    async def _heed(self, watch: LogWatch) -> None:
        if watch.replaced:
            watch.forget()
            await self._align()
        elif watch.overdue is not None:
            overdue, watch.overdue = watch.overdue, None
            await self._fill_through(overdue)

    async def _fill_through(self, position: Position) -> None:
        for partition, seq in enumerate(position.seqs):
            await self._fill(partition, seq)

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
                    self._obstacle = error
                    raise
                self._obstacle = None
                return result
        raise AssertionError("retries have no end")
