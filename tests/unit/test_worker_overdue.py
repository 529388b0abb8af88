"""The worker marks overdue orders between the batches of callers."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from builders import TIME
from tracking_order_state import metrics
from tracking_order_state.domain.partition import NOTHING_PARKED, PartitionPosition
from tracking_order_state.errors import Fault, Fenced
from tracking_order_state.processing import due_sweep
from tracking_order_state.processing.due_sweep import DueSweep
from tracking_order_state.processing.stages import (
    CommittedBatch,
    PartitionBatch,
    PartitionResult,
    PartitionState,
    ReceivedBatch,
)
from tracking_order_state.processing.worker import PartitionConsumer, Worker
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.messaging.consumer import Delivery
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.storage.database import DatabaseUnavailable

PROMPT_SECONDS = 10


class EmptyConsumer:
    """Nothing has arrived."""

    is_closed = False

    def take_bytes(self, limit: int) -> list[Delivery]:
        return []

    async def check(self) -> None:
        pass


class Processor:
    """Writes down what it is asked, and marks or fails as a test says."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.may_commit = asyncio.Event()
        self.committing = asyncio.Event()
        self.outcome: Exception | None = None
        self.bug: Exception | None = None
        self.publication: Exception | None = None

    async def receive(self, partition: PartitionState, deliveries: Sequence[Delivery]) -> PartitionBatch:
        return PartitionBatch(partition, deliveries)

    async def commit(self, received: ReceivedBatch) -> CommittedBatch:
        self.committing.set()
        await self.may_commit.wait()
        self.said.append(f"committed {[partition.number for partition in received.partitions]}")
        return CommittedBatch(received, [PartitionResult() for _ in received.parts], [False])

    async def publish_results(self, committed: CommittedBatch) -> None:
        await asyncio.sleep(0)
        self.said.append("published results")

    @property
    def steps(self) -> "Processor":
        return self

    async def mark_overdue(
        self, partition: PartitionState, order_ids: Collection[str], now: Any
    ) -> PartitionResult:
        if self.outcome is not None:
            raise self.outcome
        if self.bug is not None and "bad" in order_ids:
            raise self.bug
        self.said.append(f"marked {[*order_ids]}")
        events: Any = [{"order_id": order_id} for order_id in order_ids]
        return PartitionResult(events=events, settled=len(order_ids))

    async def publish_events(self, events: Sequence[EventDocument]) -> None:
        if self.publication is not None:
            raise self.publication
        self.said.append(f"published {len(events)}")


def owned(worker: Worker, number: int) -> PartitionConsumer:
    """A partition that the worker has claimed."""
    consumer = EmptyConsumer()
    position = PartitionPosition(number, 0, 1, NOTHING_PARKED)
    state = PartitionState(number, consumer.check, position)
    partition_consumer = PartitionConsumer(state, consumer)  # type: ignore[arg-type]  # a fake
    worker.subscribed(partition_consumer)
    return partition_consumer


@asynccontextmanager
async def running(processor: Processor) -> AsyncIterator[Worker]:
    worker = Worker(processor)  # type: ignore[arg-type]  # a fake
    task = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(PROMPT_SECONDS):
            yield worker
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_overdue_is_marked_between_two_batches_and_published_in_its_turn() -> None:
    processor = Processor()
    async with running(processor) as worker:
        first, second = owned(worker, 0), owned(worker, 1)
        handled = [asyncio.create_task(worker.handle(first))]
        await processor.committing.wait()
        marking = asyncio.create_task(record(worker, second, "o-1", "o-2"))
        await asyncio.sleep(0)
        handled.append(asyncio.create_task(worker.handle(second)))
        await asyncio.sleep(0)
        processor.may_commit.set()
        await asyncio.gather(*handled)
        assert await marking == 2
        await first.wait_until_idle()
        await second.wait_until_idle()
    said = processor.said
    assert [one for one in said if "committed" in one or "marked" in one] == [
        "committed [0]",
        "marked ['o-1', 'o-2']",
        "committed [1]",
    ]
    assert said.index("published results") < said.index("published 2")


@pytest.mark.parametrize("error", [Fenced("gone"), DatabaseUnavailable("away")])
async def test_a_failure_is_the_sweeps_and_the_worker_goes_on(error: Exception) -> None:
    processor = Processor()
    processor.may_commit.set()
    async with running(processor) as worker:
        consumer = owned(worker, 0)
        processor.outcome = error
        with pytest.raises(type(error)):
            await record(worker, consumer, "o-1")
        processor.outcome = None
        await worker.handle(consumer)
        assert await record(worker, consumer, "o-1") == 1
        await consumer.wait_until_idle()


async def test_a_lost_broker_ends_the_worker_and_lets_go_of_the_sweep() -> None:
    processor = Processor()
    processor.may_commit.set()
    processor.publication = BrokerUnavailable("lost")
    worker = Worker(processor)  # type: ignore[arg-type]  # a fake
    consumer = owned(worker, 0)
    task = asyncio.create_task(worker.run())
    async with asyncio.timeout(PROMPT_SECONDS):
        assert await record(worker, consumer, "o-1") == 1
        with pytest.raises(BrokerUnavailable):
            await task
        await consumer.wait_until_idle()


async def test_nothing_is_marked_in_a_partition_that_is_not_owned_any_more() -> None:
    processor = Processor()
    async with running(processor) as worker:
        consumer = owned(worker, 0)
        consumer.consumer.is_closed = True  # type: ignore[misc]
        assert worker.owned() == []
        assert await record(worker, consumer, "o-1") == 0
    assert processor.said == []


class DueOrders:
    """Finds what a test says, once."""

    def __init__(self, *order_ids: str) -> None:
        self.left = list(order_ids)

    async def time(self) -> Any:
        return TIME

    async def find(self, partition: int, now: Any, limit: int) -> list[str]:
        found, self.left = self.left[:limit], self.left[limit:]
        return found


def sweep_of(worker: Worker, due_orders: DueOrders) -> DueSweep:
    return DueSweep(worker, due_orders, worker.processor.steps.mark_overdue, metrics.OVERDUE_SWEEP_AGE)


async def record(worker: Worker, partition_consumer: PartitionConsumer, *order_ids: str) -> int | Fault:
    """Has the worker record of these orders that they are due."""
    return await sweep_of(worker, DueOrders()).record(partition_consumer, order_ids, TIME)


async def test_of_a_chunk_with_one_that_our_own_code_fails_on_the_others_are_marked_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(due_sweep, "MARKED_ORDERS", 3)
    processor = Processor()
    processor.bug = ZeroDivisionError("ours")
    async with running(processor) as worker:
        owned(worker, 0)
        sweep = sweep_of(worker, DueOrders("o-1", "bad", "o-2", "o-3"))
        assert not await sweep.look()
        marked = [one for one in processor.said if "marked" in one]
        assert marked == ["marked ['o-1']", "marked ['o-2']", "marked ['o-3']"]
        again = sweep_of(worker, DueOrders())
        assert not await again.look()
