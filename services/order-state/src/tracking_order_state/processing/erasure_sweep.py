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
from time import monotonic
from typing import Protocol, TypeVar

from tracking_order_state import metrics
from tracking_order_state.domain.erasure import Erasure
from tracking_order_state.errors import Fault, Fenced, fault_of
from tracking_order_state.processing.stages import PartitionResult
from tracking_order_state.processing.worker import PartitionConsumer, Step, Worker
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

MAX_FAILING_ORDERS = 100
"""Orders of a partition that our own code fails on, each tried alone. Beyond it, probably all of them fail.
"""

FAULT_SECONDS = 30.0
"""The pause before an erasure that our own code has failed on is tried again. The others go on."""

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

    def erase_archived(self, erasure: Erasure, partition: int, /) -> Awaitable[int]:
        """Erases the person in some events of archived orders that are still there. Returns their number."""
        ...

    def finish(self, erasure: Erasure, /) -> Awaitable[bool]:
        """Closes the erasure if it is done everywhere."""
        ...


class ErasesLetters(Protocol):
    """The queue of dead letters."""

    def erase(self, erasure: Erasure, /) -> Awaitable[None]:
        """Erases the person in all of them."""
        ...


T = TypeVar("T")


class _Failed(Exception):
    """Our own code has failed at an erasure."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


class _NotOwned(Exception):
    """This worker does not own the partition any more."""


class ErasureSweep:
    """Carries out open erasures, the oldest first, in the partitions that the worker owns. One that fails
    comes after the others.
    """

    def __init__(
        self,
        worker: Worker,
        erasures: FindsErasures,
        letters: ErasesLetters,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._worker = worker
        self._erasures = erasures
        self._letters = letters
        self._clock = clock
        self._faults: dict[str, Fault] = {}
        self._failed_at: dict[str, float] = {}
        """When open erasures failed last, for whatever reason."""

    async def run(self) -> None:
        """Sweeps until cancelled. While the database or the broker is away, it waits for it."""
        away: type[Exception] | None = None
        while True:
            try:
                await self.look()
                away = None
            except (DatabaseUnavailable, BrokerUnavailable) as error:
                if type(error) is not away:
                    log.warning("erasures wait: %s", error)
                away = type(error)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Carries out what is open, as far as this worker can. One that our own code fails on is logged once
        for each fault, and tried again after `FAULT_SECONDS`.

        Raises:
            DatabaseUnavailable, BrokerUnavailable: no answer; what is left is found by the next look.
        """
        erasures = await self._erasures.pending()
        metrics.OPEN_ERASURES.set(len(erasures))
        self._forget_all_but({erasure.id for erasure in erasures})
        for erasure in sorted(erasures, key=lambda one: self._failed_at.get(one.id, 0.0)):
            if not self._pauses(erasure):
                await self._try(erasure)

    def _forget_all_but(self, ids: set[str]) -> None:
        self._faults = {key: fault for key, fault in self._faults.items() if key in ids}
        self._failed_at = {key: time for key, time in self._failed_at.items() if key in ids}

    def _pauses(self, erasure: Erasure) -> bool:
        return erasure.id in self._faults and self._clock() < self._failed_at[erasure.id] + FAULT_SECONDS

    async def _try(self, erasure: Erasure) -> None:
        try:
            await self._carry_out(erasure)
        except _Failed as error:
            self._failed_at[erasure.id] = self._clock()
            if self._faults.get(erasure.id) != error.fault:
                log.error(  # noqa: TRY400 - no bug of the sweep
                    "erasure %s cannot be carried out, and is tried again: %s", erasure.id, error.fault
                )
            self._faults[erasure.id] = error.fault
        except (DatabaseUnavailable, BrokerUnavailable):
            # Perhaps only for this one, so the next look begins with the others.
            self._failed_at[erasure.id] = self._clock()
            raise
        else:
            self._faults.pop(erasure.id, None)
            self._failed_at.pop(erasure.id, None)

    async def _carry_out(self, erasure: Erasure) -> None:
        done = await self._erasures.done_in(erasure)
        failed: _Failed | None = None
        for partition_consumer in self._worker.owned():
            if partition_consumer.partition.number not in done:
                try:
                    await self._erase_in(partition_consumer, erasure)
                except _Failed as error:  # the others are erased all the same
                    failed = error
        if failed is not None:
            raise failed
        await self._erasures.finish(erasure)

    async def _erase_in(self, partition_consumer: PartitionConsumer, erasure: Erasure) -> None:
        partition, steps = partition_consumer.partition, self._worker.processor.steps
        known = self._faults.get(erasure.id)
        try:
            await self._do(partition_consumer, partial(steps.learn_erasure, erasure))
            await self._erase_orders(partition_consumer, erasure)
            # After those in `orders`: an order that is archived meanwhile is erased before or found here.
            await self._erase_archived(partition.number, erasure)
            if partition.number == LETTERS_PARTITION:
                _sound(await fault_of(self._letters.erase(erasure), known))
            await self._do(partition_consumer, partial(steps.finish_erasure, partition, erasure), known)
        except (Fenced, _NotOwned) as error:
            log.info("stopped to erase in partition %d: %s", partition.number, error)

    async def _erase_orders(self, partition_consumer: PartitionConsumer, erasure: Erasure) -> None:
        """Erases the orders of a partition.

        Raises:
            _Failed: our own code has failed at some of them. The others are erased.
        """
        partition, steps = partition_consumer.partition, self._worker.processor.steps
        fault, failing = self._faults.get(erasure.id), set[str]()
        while found := await self._erasures.find(erasure, partition.number, FOUND_ORDERS + len(failing)):
            left, size = [order_id for order_id in found if order_id not in failing], NAMED_ORDERS
            if not left:
                break
            while left:
                step = partial(steps.erase, partition, erasure, left[:size])
                try:
                    left = left[(await self._do(partition_consumer, step, fault)).settled :]
                except _Failed as error:
                    fault = error.fault
                    if size == 1:
                        failing.add(left.pop(0))
                    if len(failing) > MAX_FAILING_ORDERS:
                        raise
                    size = 1
        if failing and fault is not None:
            raise _Failed(fault)

    async def _erase_archived(self, partition: int, erasure: Erasure) -> None:
        known, number = self._faults.get(erasure.id), 1
        while number:
            async with self._worker.paced():
                number = _sound(await fault_of(self._erasures.erase_archived(erasure, partition), known))

    async def _do(
        self, partition_consumer: PartitionConsumer, step: Step, known: Fault | None = None
    ) -> PartitionResult:
        async with self._worker.paced():
            result = _sound(await self._worker.between_batches(partition_consumer, step, known))
        if result is None:
            raise _NotOwned("another worker owns it")
        return result


def _sound(result: T | Fault) -> T:
    if isinstance(result, Fault):
        raise _Failed(result)
    return result
