"""The feed: every event of the log to the hub, once and in order, whatever the broker loses.

The broker brings events quickly; the log has them surely. A jump in the sequence numbers, a new
connection, and a look at the log's positions about once a second show what was missed.
"""

import logging
from asyncio import get_running_loop, timeout
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from notifier.events import Event, UndecodableEvents, decode_events
from notifier.hub import Hub
from notifier.log import EventLog
from notifier.metrics import TAKEN, UNDECODABLE
from notifier.positions import Fetch, plan, unjoinable_because
from shared.broker import BrokerUnavailable, Connection, Consumer, Delivery
from shared.cursors import Position
from shared.database import DatabaseUnavailable, retrying_database
from shared.topology import EVENTS_EXCHANGE
from shared.workflow import Workflow

log = logging.getLogger(__name__)

T = TypeVar("T")

CHECK_SECONDS = 1.0
"""How often the log's positions are compared. What was missed without a later event to show it is
delivered after one to two of these."""

QUEUE_MESSAGES = 1000
"""Waiting in our broker queue; at most 1 MiB each. What is dropped beyond that is read from the log."""

DELIVERIES_AT_ONCE = 20


class Feed:
    """Keeps the hub at the end of the log while there is a broker and a database."""

    def __init__(self, hub: Hub, event_log: EventLog, workflow: Workflow, partitions: int) -> None:
        self._hub = hub
        self._log = event_log
        self._workflow = workflow
        self._partitions = partitions
        self._heads: Position | None = None
        self._next_check = 0.0
        self._connected = False

    async def check(self) -> None:
        """Raises `BrokerUnavailable` while events do not arrive from the broker."""
        if not self._connected:
            raise BrokerUnavailable("not connected")

    async def serve(self, connection: Connection) -> None:
        """Feeds the hub for as long as the connection lasts.

        Raises:
            BrokerUnavailable: always in the end.
        """
        await connection.declare(self._partitions)
        _, consumer = await connection.private_consumer(EVENTS_EXCHANGE, limit=QUEUE_MESSAGES)
        # Only now: what is announced after the binding waits in the queue, what was before is in the log.
        await self._align()
        self._connected = True
        try:
            while (deliveries := await self._next(consumer)) is not None:
                for delivery in deliveries:
                    await self._take(delivery)
                self._hub.flush()
                if deliveries:
                    await deliveries[-1].acknowledge_through()
        finally:
            self._connected = False
        raise BrokerUnavailable("the connection was lost")

    async def _next(self, consumer: Consumer) -> list[Delivery] | None:
        """What has arrived; empty after a look for what was missed; None at the end of the channel."""
        clock = get_running_loop().time
        wait = self._next_check - clock()
        if wait > 0:
            with suppress(TimeoutError):
                async with timeout(wait):
                    return await consumer.next_batch(DELIVERIES_AT_ONCE) or None
        await self._check_log()
        self._next_check = clock() + CHECK_SECONDS
        return []

    async def _take(self, delivery: Delivery) -> None:
        try:
            events = decode_events(delivery.body, self._workflow, self._partitions)
        except UndecodableEvents as error:
            # Whatever it was meant to announce is missing now, and will be read from the log.
            log.error("message dropped: %s", error)  # noqa: TRY400 - the error is the broker's message
            UNDECODABLE.inc()
            return
        if events:
            await self._take_events(events[0].partition, events)

    async def _take_events(self, partition: int, events: list[Event]) -> None:
        for step in plan(self._hub.position[partition], [event.seq for event in events]):
            if isinstance(step, Fetch):
                heads = await _patiently(self._log.heads)
                if step.through > heads.seqs[partition]:
                    # Only what is committed is ever announced, so this message is none of order-state's.
                    log.error("partition %d: the log has no event %d", partition, step.through)
                    UNDECODABLE.inc()
                    return
                await self._fill(partition, step.through)
            else:
                TAKEN.labels("broker").inc(step.stop - step.start)
                self._hub.publish(events[step.start : step.stop])

    async def _align(self) -> None:
        """Brings the hub to the end of the log."""
        heads = await _patiently(self._log.heads)
        if self._started_anew(heads):
            return
        for partition, head in enumerate(heads.seqs):
            await self._fill(partition, head)
        self._heads = heads

    async def _check_log(self) -> None:
        try:
            heads = await self._log.heads()
        except DatabaseUnavailable as error:
            log.warning("the log's positions are not known: %s", error)
            return
        if self._started_anew(heads):
            return
        # What the log had at the last look already and has not arrived since was missed; what is newer
        # is most likely on its way.
        if self._heads is not None:
            for partition, head in enumerate(self._heads.seqs):
                await self._fill(partition, head)
        self._heads = heads

    def _started_anew(self, heads: Position) -> bool:
        """Starts the hub at `heads` if it has no position, or one of a log that is gone."""
        if self._hub.started and unjoinable_because(self._hub.head, heads) is None:
            return False
        if self._hub.started:
            log.error("the log was replaced or set back; every client starts anew")
        self._hub.start(heads)
        self._heads = heads
        return True

    async def _fill(self, partition: int, through: int) -> None:
        """Delivers from the log what is missing up to `through`."""
        while (last := self._hub.position[partition]) < through:
            self._hub.flush()
            events = await _patiently(partial(self._log.page, partition, last, through))
            TAKEN.labels("log").inc(len(events))
            self._hub.publish(events)
            self._hub.flush()


async def _patiently(read: Callable[[], Awaitable[T]]) -> T:
    """Reads, however long the database is away: nothing can be delivered meanwhile anyway."""
    async for attempt in retrying_database():
        with attempt:
            return await read()
    raise AssertionError("retries have no end")
