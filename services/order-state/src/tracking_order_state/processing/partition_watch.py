"""Watches all partitions: counts parked orders, and has partitions claimed whose horizon is stalled.

The broker does not notify the new active consumer of a queue: a worker learns of it from its first delivery,
and only then claims the partition. So without commands the horizon would stall from the first start, or from
a take-over. A message to the queue of the partition reaches the active consumer, whichever process that is,
and makes it claim the partition.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime
from itertools import count
from time import monotonic

from tracking_order_state import metrics
from tracking_order_state.adapters.store import Store
from tracking_shared.contracts.commands import (
    COMMANDS_MEDIA_TYPE,
    ReleaseOrder,
    encode_command,
    join_commands,
)
from tracking_shared.contracts.formats import COMMANDS, message_headers
from tracking_shared.contracts.layout import Layout
from tracking_shared.contracts.timestamps import UNIX_EPOCH
from tracking_shared.messaging.connection import Connection
from tracking_shared.messaging.publisher import Publisher
from tracking_shared.messaging.topology import partition_queue_name
from tracking_shared.storage.database import DatabaseUnavailable

log = logging.getLogger(__name__)

WAITING_SECONDS = 5
"""The interval at which parked orders and held updates are counted."""

HORIZON_SECONDS = 1
"""The interval at which horizons are read."""

STALLED_AFTER_SECONDS = 2
"""A live owner moves its horizon on every second or two."""

REPEAT_SECONDS = 30
"""A queue whose owner is away gets two messages a minute from each replica, and may hold 20,000."""


async def watch_waiting(store: Store) -> None:
    """Keeps the gauges of parked orders and held updates current until cancelled; while the database is away
    they stay as they were.

    Every replica exports it: an alarm must neither end with the replica that raised it, nor wait for the next
    command of the partition.
    """
    while True:
        try:
            for partition, (parked, held) in (await store.waiting()).items():
                metrics.PARKED_ORDERS.labels(partition).set(parked)
                metrics.HELD_UPDATES.labels(partition).set(held)
        except DatabaseUnavailable as error:
            log.debug("cannot count parked orders and held updates: %s", error)
        await asyncio.sleep(WAITING_SECONDS)


class StalledHorizons:
    """Finds the partitions that are to be claimed, by whether their horizons move, and not by their age: the
    clocks of other processes may be wrong.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[datetime, float]] = {}
        self._requested: dict[int, float] = {}

    def due(self, horizons: Mapping[int, datetime], seconds: float) -> list[int]:
        """The stalled ones among `horizons`, read at `seconds` of a clock that only runs forward."""
        return [partition for partition in horizons if self._is_due(partition, horizons[partition], seconds)]

    def _is_due(self, partition: int, horizon: datetime, seconds: float) -> bool:
        seen, since = self._seen.get(partition, (None, seconds))
        if horizon != seen:
            since = seconds
            self._seen[partition] = horizon, since
            self._requested.pop(partition, None)
        if horizon != UNIX_EPOCH and seconds - since < STALLED_AFTER_SECONDS:
            return False
        if seconds - self._requested.get(partition, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        self._requested[partition] = seconds
        return True


class HorizonWatch:
    """Exports the horizons of all partitions as a metric, and requests claims of those that are stalled."""

    def __init__(self, store: Store, publisher: Publisher, layout: Layout) -> None:
        self._store = store
        self._publisher = publisher
        self._requests = claim_requests(layout)
        self._stalled = StalledHorizons()

    async def run(self) -> None:
        """Reads the horizons once a second until cancelled.

        Raises:
            BrokerUnavailable: the connection is gone.
        """
        while True:
            try:
                horizons = await self._store.horizons()
            except DatabaseUnavailable as error:
                log.debug("cannot look at the horizons: %s", error)
            else:
                await self._check(horizons)
            await asyncio.sleep(HORIZON_SECONDS)

    async def _check(self, horizons: Mapping[int, datetime]) -> None:
        for partition, horizon in horizons.items():
            metrics.HORIZON.labels(partition).set(horizon.timestamp())
        known = {partition: at for partition, at in horizons.items() if partition < len(self._requests)}
        for partition in self._stalled.due(known, monotonic()):
            await self._publisher.publish(
                partition_queue_name(partition),
                self._requests[partition],
                content_type=COMMANDS_MEDIA_TYPE,
                headers=message_headers(COMMANDS),
            )


def claim_requests(layout: Layout) -> list[bytes]:
    """Makes a message for each partition that has its worker claim it, and changes nothing.

    It is the release of an order that is not parked: earlier versions understand that, and would dead-letter
    a new kind of command.
    """
    bodies: dict[int, bytes] = {}
    for number in count():
        order_id = f"wake:{number}"
        for partition in layout.homes(order_id):
            if partition not in bodies:
                bodies[partition] = join_commands([encode_command(ReleaseOrder(order_id=order_id))])
        if len(bodies) == layout.partitions:
            break
    return [bodies[partition] for partition in range(layout.partitions)]


async def open_horizon_watch(connection: Connection, store: Store, layout: Layout) -> HorizonWatch:
    """Opens a watch that sends its requests over this connection.

    Raises:
        BrokerUnavailable: the connection is gone.
    """
    # Straight to the queues: to publish to the exchange of the commands is the right of ingest.
    publisher = await connection.publisher("", mandatory=False, confirms=False)
    return HorizonWatch(store, publisher, layout)
