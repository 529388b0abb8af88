"""Wakes partitions whose horizon stands still.

The broker tells nobody that he has become the active consumer of a queue: a worker learns it from its first
delivery, and only then claims the partition. So without commands the horizon would stand still from the
first start, or from a take-over. A message to the partition's own queue reaches the active consumer, whoever
that is, and has it claim.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime
from itertools import count
from time import monotonic

from order_state import metrics
from order_state.store import Store
from shared.broker import Connection, Publisher
from shared.commands import COMMANDS_MEDIA_TYPE, ReleaseOrder, encode_command, join_commands
from shared.database import DatabaseUnavailable
from shared.partitioning import partition_of
from shared.timestamps import UNIX_EPOCH
from shared.topology import partition_queue_name

log = logging.getLogger(__name__)

LOOK_SECONDS = 1

STILL_SECONDS = 2
"""A living owner moves its horizon on every second or two."""

REPEAT_SECONDS = 30
"""A queue whose owner is away holds two messages a minute of each replica, of the 20,000 that it may hold."""


class Standstills:
    """Which partitions are to be woken. Goes by whether a horizon moves, not by how old it is: the clocks of
    other processes may be wrong.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[datetime, float]] = {}
        self._woken: dict[int, float] = {}

    def due(self, horizons: Mapping[int, datetime], seconds: float) -> list[int]:
        """Those of `horizons`, as they are at `seconds` of a clock that only runs forward."""
        return [partition for partition in horizons if self._is_due(partition, horizons[partition], seconds)]

    def _is_due(self, partition: int, horizon: datetime, seconds: float) -> bool:
        seen, since = self._seen.get(partition, (None, seconds))
        if horizon != seen:
            since = seconds
            self._seen[partition] = horizon, since
            self._woken.pop(partition, None)
        if horizon != UNIX_EPOCH and seconds - since < STILL_SECONDS:
            return False
        if seconds - self._woken.get(partition, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        self._woken[partition] = seconds
        return True


class Waker:
    """Looks at the horizons of all partitions, shows them as a metric, and wakes those that stand still."""

    def __init__(self, store: Store, publisher: Publisher, partitions: int) -> None:
        self._store = store
        self._publisher = publisher
        self._messages = wake_messages(partitions)
        self._standstills = Standstills()

    async def run(self) -> None:
        """Looks once a second until cancelled.

        Raises:
            BrokerUnavailable: the connection is gone.
        """
        while True:
            try:
                horizons = await self._store.horizons()
            except DatabaseUnavailable as error:
                log.debug("cannot look at the horizons: %s", error)
            else:
                await self._look(horizons)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, horizons: Mapping[int, datetime]) -> None:
        for partition, horizon in horizons.items():
            metrics.HORIZON.labels(partition).set(horizon.timestamp())
        for partition in self._standstills.due(horizons, monotonic()):
            await self._publisher.publish(
                partition_queue_name(partition), self._messages[partition], content_type=COMMANDS_MEDIA_TYPE
            )


def wake_messages(partitions: int) -> list[bytes]:
    """A message for each partition that has its worker claim it, and changes nothing.

    It asks for the release of an order that is not parked. Earlier releases do with it what this one does; a
    kind of its own they would dead-letter.
    """
    bodies: dict[int, bytes] = {}
    for number in count():
        order_id = f"wake:{number}"
        partition = partition_of(order_id, partitions)
        if partition not in bodies:
            bodies[partition] = join_commands([encode_command(ReleaseOrder(order_id=order_id))])
            if len(bodies) == partitions:
                break
    return [bodies[partition] for partition in range(partitions)]


async def open_waker(connection: Connection, store: Store, partitions: int) -> Waker:
    """A waker on this connection.

    Raises:
        BrokerUnavailable: the connection is gone.
    """
    # Straight to the queues: to publish to the exchange of the commands is the right of ingest.
    publisher = await connection.publisher("", mandatory=False, confirms=False)
    return Waker(store, publisher, partitions)
