"""Sweeps: find what has come due in this worker's partitions (orders whose due time has passed, held updates
whose time is over), and have the worker record it, in small transactions between the batches of callers.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Protocol

from prometheus_client import Gauge

from tracking_order_state.errors import Fault, Fenced
from tracking_order_state.processing.stages import PartitionResult, PartitionState
from tracking_order_state.processing.worker import PartitionConsumer, Worker
from tracking_shared.storage.database import DatabaseUnavailable

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Between two looks while nothing is due. Orders are promised to be overdue, and held updates to be decided,
within 60 s, take-overs included; a look is one small query for each partition."""

LOOK_ORDERS = 1_000
"""Ids that one look reads. The embedded database reads the index to the end of the range each time, so many
small looks at a long backlog would cost more."""

MARKED_ORDERS = 100
"""Orders (or held updates) of one transaction, about 20 ms: callers wait so long for it at most."""

MAX_SKIPPED_ORDERS = 1_000
"""Orders (or held updates) that our own code fails on, and that this process tries no more. Beyond it, the
oldest is tried again."""


class FindsDue(Protocol):
    """The store that finds what is due, and the clock that judges it."""

    def time(self) -> Awaitable[datetime]:
        """The time by which something is due or not."""
        ...

    def find(self, partition: int, now: datetime, limit: int, /) -> Awaitable[list[str]]:
        """The ids of what in a partition was due at `now` or before and awaits it."""
        ...


DueStep = Callable[[PartitionState, Sequence[str], datetime], Awaitable[PartitionResult]]
"""Records of these ids that they are due: a step of `SystemSteps`."""


class DueSweep:
    """Sweeps the partitions that the worker owns, one after the other, a part of each in turn."""

    def __init__(
        self,
        worker: Worker,
        finder: FindsDue,
        step: DueStep,
        age: Gauge,
        has_any: Callable[[PartitionConsumer], bool] = lambda _: True,
    ) -> None:
        """`age` shows the time since nothing was left to do. Where `has_any` says that there is nothing that
        could be due, the database is not asked.
        """
        self._worker = worker
        self._finder = finder
        self._step = step
        self._age = age
        self._has_any = has_any
        self._skipped: dict[str, None] = {}
        self._swept_at: dict[PartitionConsumer, float] = {}

    async def run(self) -> None:
        """Sweeps until cancelled. While the database is away, it waits for it."""
        self._age.set_function(self.age_seconds)
        while True:
            has_more = False
            try:
                has_more = await self.look()
            except DatabaseUnavailable as error:
                log.debug("cannot look for what is due: %s", error)
            if not has_more:
                await asyncio.sleep(LOOK_SECONDS)

    def age_seconds(self) -> float:
        """The time since everything that was due in a partition of this worker was recorded; the longest."""
        owned = self._worker.owned()
        return max((monotonic() - self._swept_at[one] for one in owned if one in self._swept_at), default=0.0)

    async def look(self) -> bool:
        """Looks at each partition once. Returns True if there may be more of what it found.

        Raises:
            DatabaseUnavailable: no answer.
        """
        owned = self._worker.owned()
        begun = monotonic()
        self._swept_at = {one: self._swept_at.get(one, begun) for one in owned}
        concerned = {one for one in owned if self._has_any(one)}
        now = await self._finder.time() if concerned else None
        has_more = False
        for partition_consumer in owned:
            if now and partition_consumer in concerned and await self._sweep(partition_consumer, now):
                has_more = True
            else:
                self._swept_at[partition_consumer] = begun
        return has_more

    async def _sweep(self, partition_consumer: PartitionConsumer, now: datetime) -> bool:
        limit = LOOK_ORDERS + len(self._skipped)
        found = await self._finder.find(partition_consumer.partition.number, now, limit)
        due = [order_id for order_id in found if order_id not in self._skipped]
        marked = 0
        try:
            for some in _chunks(due):
                marked += await self._mark(partition_consumer, some, now)
        except Fenced as error:
            log.info("stopped to sweep partition %d: %s", partition_consumer.partition.number, error)
            return False
        # Without the second condition, orders that another worker has marked meanwhile would be asked for
        # again and again.
        return len(found) == limit and marked > 0

    async def _mark(
        self, partition_consumer: PartitionConsumer, order_ids: Sequence[str], now: datetime
    ) -> int:
        async with self._worker.paced():
            marked = await self.record(partition_consumer, order_ids, now)
        if isinstance(marked, Fault):
            return await self._mark_alone(partition_consumer, order_ids, now)
        return marked

    async def _mark_alone(
        self, partition_consumer: PartitionConsumer, order_ids: Sequence[str], now: datetime
    ) -> int:
        """Marks each order alone, after our own code failed on one of them; skips that one from now on."""
        total = 0
        for order_id in order_ids:
            marked = await self.record(partition_consumer, [order_id], now)
            if isinstance(marked, Fault):
                self._skip(order_id)
                log.error("%s is due, and it cannot be recorded: %s", _loggable(order_id), marked)
            else:
                total += marked
        return total

    async def record(
        self, partition_consumer: PartitionConsumer, ids: Sequence[str], now: datetime
    ) -> int | Fault:
        """Has the worker record of these ids that they are due, between two batches of callers. Returns of
        how many it did, or the fault of our own code if it failed at it.

        Raises:
            Fenced: another worker owns the partition.
            DatabaseUnavailable: no answer; some of it may be written.
            asyncio.CancelledError: also when the worker ends meanwhile.
        """
        step = partial(self._step, partition_consumer.partition, ids, now)
        result = await self._worker.between_batches(partition_consumer, step)
        return result.settled if isinstance(result, PartitionResult) else result or 0

    def _skip(self, order_id: str) -> None:
        self._skipped[order_id] = None
        if len(self._skipped) > MAX_SKIPPED_ORDERS:
            del self._skipped[next(iter(self._skipped))]


def _loggable(name: str) -> str:
    """An order id; of a held update that and its update id. Its sender, the rest, may be a mail address."""
    return "/".join(name.split("/")[:2])


def _chunks(order_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(order_ids), MARKED_ORDERS):
        yield order_ids[start : start + MARKED_ORDERS]


def holds_any(partition_consumer: PartitionConsumer) -> bool:
    """True if updates are held in the partition, as far as this worker knows."""
    position = partition_consumer.partition.position
    return position is not None and position.held > 0
