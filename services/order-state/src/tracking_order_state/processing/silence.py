"""Detects a broker node that answers and delivers nothing while commands wait.

A node that has lost its peers may keep its clients: heartbeats pass, consumers count as active, and nothing
arrives. So another node is asked for the length of the queues, and that is compared with the arrivals here.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

from tracking_order_state import metrics
from tracking_order_state.errors import BrokerSilent
from tracking_order_state.processing.worker import PartitionConsumer
from tracking_shared.messaging.connection import Connection, connect
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.messaging.reconnection import cancellable
from tracking_shared.messaging.topology import partition_queue_name
from tracking_shared.storage.database import DatabaseUnavailable

log = logging.getLogger(__name__)

OBSERVATIONS_PER_BOUND = 5
"""Observations within the bound: one late answer decides nothing."""

STANDBY_FACTOR = 3
"""A standby gets nothing while the broker notices that the active consumer is dead (about 12 s). For it, so
many times the bound must pass without any progress before its node counts as silent."""

MAX_SILENCE_SECONDS = 300.0
"""The bound doubles with each connection in a row that is given up, up to this."""

ASK_TIMEOUT_SECONDS = 5.0
"""For all questions of one observation. Opening a connection has bounds of its own."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One partition at one moment."""

    ready: int
    """Messages that wait in the queue, according to another node."""
    arrived: bool
    """The broker has delivered a message here since the last observation."""
    has_unsettled: bool
    """A delivered message is not acknowledged yet: then the broker waits for this process."""
    is_active: bool
    """This process is known to be the active consumer."""
    horizon: datetime
    """Moves while any worker owns the partition."""


class SilenceDetector:
    """Measures for how long each partition has got none of the messages that wait for it. Times are those of
    a clock that only runs forward.
    """

    def __init__(self, bound_seconds: float) -> None:
        self._bound_seconds = bound_seconds
        self._given_up = 0
        self._since: dict[int, float] = {}
        self._horizons: dict[int, datetime] = {}
        self._observed_at = 0.0
        self.is_over = True
        """A message had arrived at the last observation, or none waited for this process."""

    @property
    def bound_seconds(self) -> float:
        """The time for which an active consumer may get nothing."""
        return min(self._bound_seconds * 2.0**self._given_up, max(MAX_SILENCE_SECONDS, self._bound_seconds))

    def observe(self, observations: Mapping[int, Observation], seconds: float) -> list[int]:
        """Returns the partitions on which the node is silent. The time of a partition that is not observed
        starts anew, and that of all does after a pause: a process that was frozen has not read what had
        arrived.
        """
        if seconds - self._observed_at > self._bound_seconds:
            self._since.clear()
        self._observed_at = seconds
        delivers = any(seen.arrived for seen in observations.values())
        self._since = {
            partition: self._since.get(partition, seconds)
            for partition, seen in observations.items()
            if self._is_waiting(partition, seen, delivers=delivers)
        }
        # On a new connection one observation does not show whether any worker owns the partition.
        is_unknown = any(
            seen.ready and not seen.is_active and partition not in self._horizons
            for partition, seen in observations.items()
        )
        self._horizons = {partition: seen.horizon for partition, seen in observations.items()}
        self.is_over = delivers or not (self._since or is_unknown)
        if self.is_over:
            self._given_up = 0
        return [
            partition
            for partition, since in self._since.items()
            if seconds - since
            >= self.bound_seconds * (1 if observations[partition].is_active else STANDBY_FACTOR)
        ]

    def give_up(self) -> None:
        """Notes that the connection is given up: the next one starts anew, with a longer bound."""
        self._given_up = min(self._given_up + 1, 20)
        self._since.clear()
        self._horizons.clear()

    def _is_waiting(self, partition: int, seen: Observation, *, delivers: bool) -> bool:
        if not seen.ready or seen.arrived or seen.has_unsettled:
            return False
        # An active consumer moves the horizon itself. Where a standby sees it move, another one is active.
        return seen.is_active or (not delivers and self._horizons.get(partition) == seen.horizon)


class SilenceWatch:
    """Compares the messages that wait with those that arrive, over all connections of a process."""

    def __init__(
        self, url: str, bound_seconds: float, horizons: Callable[[], Awaitable[Mapping[int, datetime]]]
    ) -> None:
        self._url = url
        self._interval_seconds = bound_seconds / OBSERVATIONS_PER_BOUND
        self._horizons = horizons
        self._detector = SilenceDetector(bound_seconds)
        self._consumers: dict[int, PartitionConsumer] = {}
        self._arrivals: dict[int, tuple[PartitionConsumer, int]] = {}
        self._fault: BrokerSilent | None = None

    def subscribed(self, partition_consumer: PartitionConsumer) -> None:
        """Notes the newest consumer of a partition."""
        self._consumers[partition_consumer.partition.number] = partition_consumer

    def check(self) -> None:
        """Raises `BrokerSilent` after a silence, until a message arrives or none waits."""
        if self._fault is not None:
            raise self._fault.with_traceback(None)

    async def run(self, connection: Connection) -> None:
        """Watches one connection.

        Raises:
            BrokerSilent: its node is silent; connect to another one.
        """
        self._consumers, self._arrivals = {}, {}
        silent: list[int] = []
        was_logged = False
        while not silent:
            try:
                silent = await cancellable(self._watch(connection))
            except BrokerUnavailable as error:
                # Once for each connection: it may last, where this user may not ask.
                log.log(
                    logging.DEBUG if was_logged else logging.WARNING,
                    "the queues cannot be watched: %s",
                    error,
                )
                was_logged = True
                await asyncio.sleep(self._interval_seconds)
        self._detector.give_up()
        self._fault = BrokerSilent(f"it delivers nothing, though commands wait for the partitions {silent}")
        metrics.BROKER_SILENCES.inc()
        metrics.BROKER_SILENT.set(1)
        raise self._fault

    async def _watch(self, connection: Connection) -> list[int]:
        async with connect(self._url, "order-state-watch", lost=connection.address) as other:
            while True:
                await asyncio.sleep(self._interval_seconds)
                if silent := await self._observe(other):
                    return silent

    async def _observe(self, other: Connection) -> list[int]:
        try:
            horizons = await self._horizons()
        except DatabaseUnavailable as error:
            log.debug("cannot look at the horizons: %s", error)
            return []
        try:
            async with asyncio.timeout(ASK_TIMEOUT_SECONDS):
                ready = {p: await other.depth(partition_queue_name(p)) for p in list(self._consumers)}
        except TimeoutError as error:
            raise BrokerUnavailable("no answer about the queues in time") from error
        observations = {
            partition: self._observation(self._consumers[partition], number, horizons[partition])
            for partition, number in ready.items()
            if partition in horizons
        }
        silent = self._detector.observe(observations, monotonic())
        if observations and self._detector.is_over:
            self._fault = None
            metrics.BROKER_SILENT.set(0)
        return silent

    def _observation(
        self, partition_consumer: PartitionConsumer, ready: int, horizon: datetime
    ) -> Observation:
        partition, consumer = partition_consumer.partition.number, partition_consumer.consumer
        seen, number = self._arrivals.get(partition, (partition_consumer, 0))
        arrived = consumer.arrivals > (number if seen is partition_consumer else 0)
        self._arrivals[partition] = partition_consumer, consumer.arrivals
        is_active = partition_consumer.partition.position is not None and not consumer.is_closed
        return Observation(ready, arrived, consumer.has_unsettled, is_active, horizon)
