"""The sweep of archiving: has the worker archive the orders that a part of an archive contains, in the
partitions that it owns, in small transactions between the batches of callers.
"""

import asyncio
import logging
from collections.abc import Awaitable, Collection
from typing import Protocol

from tracking_order_state.domain.archiving import ArchiveRequest
from tracking_order_state.errors import Fault, Fenced
from tracking_order_state.processing.stages import PartitionResult
from tracking_order_state.processing.worker import MAX_REST_SECONDS, PartitionConsumer, Worker
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.step_size import StepSize
from tracking_shared.storage.database import DatabaseUnavailable
from tracking_shared.telemetry.logs import PacedLog

log = logging.getLogger(__name__)
paced_log = PacedLog(log)

LOOK_SECONDS = 1.0
"""Between two looks when there was nothing to do: one query of an index that is empty most of the time."""

FAULT_SECONDS = 30.0
"""The pause after a fault of our own code."""

STEP_SIZE = StepSize(items=25, least=25, most=100, target_seconds=0.010)
"""Orders of a transaction, for whose end updates wait. One of 25 orders takes about twice as long as one of
none, so smaller ones would hold up the archive more than they help callers."""

REST_FACTOR = 3.0
"""While callers send, the pause after a transaction is so many times as long as that took."""


class FindsArchivings(Protocol):
    """The store of requests to archive orders."""

    def pending(self, partitions: Collection[int], /) -> Awaitable[list[ArchiveRequest]]:
        """Open requests of these partitions."""
        ...


class ArchiveSweep:
    """Carries out requests to archive orders, in the partitions that the worker owns."""

    def __init__(self, worker: Worker, archivings: FindsArchivings) -> None:
        self._worker = worker
        self._archivings = archivings
        self._size = STEP_SIZE
        self._batches = 0
        """Of the worker, at the end of the newest step."""

    async def run(self) -> None:
        """Sweeps until cancelled. While the database or the broker is away, it waits for it."""
        while True:
            rest = LOOK_SECONDS
            try:
                rest = 0.0 if await self.look() else LOOK_SECONDS
            except (DatabaseUnavailable, BrokerUnavailable) as error:
                paced_log.warning("archiving waits", error)
            except _Failed as error:
                log.error("orders cannot be archived: %s", error)  # noqa: TRY400 - no bug of the sweep
                rest = FAULT_SECONDS
            await asyncio.sleep(rest)

    async def look(self) -> int:
        """Carries out what is open, as far as this worker can. Returns the number of requests. One that our
        own code fails on does not hold up the others.

        Raises:
            DatabaseUnavailable, BrokerUnavailable: no answer; what is left is found by the next look.
            _Failed: our own code has failed at one of them.
        """
        failed: _Failed | None = None
        owned = {one.partition.number: one for one in self._worker.owned()}
        requests = await self._archivings.pending(owned) if owned else []
        for request in requests:
            try:
                await self._archive(owned[request.partition], request)
            except _Failed as error:
                failed = error
        if failed is not None:
            raise failed
        return len(requests)

    async def _archive(self, partition_consumer: PartitionConsumer, request: ArchiveRequest) -> None:
        left: ArchiveRequest | None = request
        try:
            while left is not None:
                orders, left = left.split(self._size.items)
                if not await self._step(partition_consumer, orders):
                    return  # all of it is repeated by the next owner: its last step closes the request
        except Fenced as error:
            log.info("stopped to archive in partition %d: %s", request.partition, error)

    async def _step(self, partition_consumer: PartitionConsumer, orders: ArchiveRequest) -> bool:
        """Archives some orders, and pauses if callers have sent something since the step before. False: this
        worker does not own the partition any more.

        Raises:
            Fenced: another worker owns the partition.
            _Failed: our own code has failed at it.
        """
        clock, seconds = asyncio.get_running_loop().time, 0.0

        async def step() -> PartitionResult:
            nonlocal seconds
            started = clock()
            result = await self._worker.processor.steps.archive(partition_consumer.partition, orders)
            seconds = clock() - started
            return result

        result = await self._worker.between_batches(partition_consumer, step)
        if isinstance(result, Fault):
            raise _Failed(result)
        if result is None:
            return False
        self._size = self._size.after(len(orders.orders), seconds)
        batches, self._batches = self._batches, self._worker.batches
        if self._batches != batches:
            await asyncio.sleep(min(REST_FACTOR * seconds, MAX_REST_SECONDS))
        return True


class _Failed(Exception):
    """Our own code has failed at archiving."""
