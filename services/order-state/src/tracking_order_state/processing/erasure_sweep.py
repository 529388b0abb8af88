"""The sweep of erasures: finds the persons that are to be erased, and has the worker erase them in the
partitions that it owns, in small transactions between the batches of callers.

For each partition it first has the worker learn the erasure, then looks for orders, and then notes that the
partition is done, behind the fence. So what is decided before is found, and what is decided later holds
nothing of the person. Whoever takes the partition over in between learns all erasures before it decides
anything.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from tracking_order_state import metrics
from tracking_order_state.domain.erasure import Erasure
from tracking_order_state.errors import Fault, Fenced
from tracking_order_state.processing.stages import CommittedBatch
from tracking_order_state.processing.worker import PartitionConsumer, Worker
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.storage.database import DatabaseUnavailable

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""Between two looks. Whoever asks for an erasure waits for its end; a look is one query of an index that is
empty most of the time."""

FOUND_ORDERS = 1_000
"""Orders that are found at once."""

NAMED_ORDERS = 100
"""Orders that one transaction erases at most."""

FAULT_SECONDS = 30.0
"""The pause after a fault of our own code."""

LETTERS_PARTITION = 0
"""The owner of this partition erases the dead letters, which belong to none."""


class FindsErasures(Protocol):
    """The store of erasures."""

    def pending(self) -> Awaitable[list[Erasure]]:
        """The open erasures."""
        ...

    def done_in(self, erasure: Erasure, /) -> Awaitable[set[int]]:
        """The partitions in which an erasure is done."""
        ...

    def find(self, erasure: Erasure, partition: int, limit: int, /) -> Awaitable[list[str]]:
        """The ids of orders of a partition that are to be erased."""
        ...

    def finish(self, erasure: Erasure, /) -> Awaitable[bool]:
        """Closes the erasure if it is done everywhere."""
        ...


class ErasesLetters(Protocol):
    """The queue of dead letters."""

    def erase(self, erasure: Erasure, /) -> Awaitable[None]:
        """Erases the person in all of them."""
        ...


Step = Callable[[], Awaitable[CommittedBatch | Fault]]
"""What the worker does between two batches."""


class _Failed(Exception):
    """Our own code has failed at an erasure."""


class _NotOwned(Exception):
    """This worker does not own the partition any more."""


class ErasureSweep:
    """Carries out open erasures, the oldest first, in the partitions that the worker owns."""

    def __init__(self, worker: Worker, erasures: FindsErasures, letters: ErasesLetters) -> None:
        self._worker = worker
        self._erasures = erasures
        self._letters = letters

    async def run(self) -> None:
        """Sweeps until cancelled. While the database or the broker is away, it waits for it."""
        while True:
            rest = LOOK_SECONDS
            try:
                await self.look()
            except (DatabaseUnavailable, BrokerUnavailable) as error:
                log.warning("an erasure waits: %s", error)
            except _Failed as error:
                log.error("an erasure cannot be carried out: %s", error)  # noqa: TRY400 - no bug of the sweep
                rest = FAULT_SECONDS
            await asyncio.sleep(rest)

    async def look(self) -> None:
        """Carries out what is open, as far as this worker can.

        Raises:
            DatabaseUnavailable, BrokerUnavailable: no answer; what is left is found by the next look.
        """
        erasures = await self._erasures.pending()
        metrics.OPEN_ERASURES.set(len(erasures))
        for erasure in erasures:
            done = await self._erasures.done_in(erasure)
            for partition_consumer in self._worker.owned():
                if partition_consumer.partition.number not in done:
                    await self._erase_in(partition_consumer, erasure)
            await self._erasures.finish(erasure)

    async def _erase_in(self, partition_consumer: PartitionConsumer, erasure: Erasure) -> None:
        partition, processor = partition_consumer.partition, self._worker.processor
        try:
            await self._do(partition_consumer, processor.learn_erasures)
            while found := await self._erasures.find(erasure, partition.number, FOUND_ORDERS):
                while found:
                    some = found[:NAMED_ORDERS]
                    result = await self._do(
                        partition_consumer, partial(processor.erase, partition, erasure, some)
                    )
                    found = found[result.results[0].settled :]
            if partition.number == LETTERS_PARTITION:
                await self._letters.erase(erasure)
            await self._do(partition_consumer, partial(processor.finish_erasure, partition, erasure))
        except (Fenced, _NotOwned) as error:
            log.info("stopped to erase in partition %d: %s", partition.number, error)

    async def _do(self, partition_consumer: PartitionConsumer, commit: Step) -> CommittedBatch:
        publish = self._worker.processor.publish_erasure
        async with self._worker.paced():
            result = await self._worker.between_batches(partition_consumer, commit, publish)
        if isinstance(result, Fault):
            raise _Failed(result)
        if result is None:
            raise _NotOwned("another worker owns it")
        return result
