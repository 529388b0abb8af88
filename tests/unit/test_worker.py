"""The worker: which batches run beside one another, and what becomes of them when one is stalled."""

import asyncio
from collections.abc import Sequence

import pytest

from tracking_order_state import metrics
from tracking_order_state.domain.partition import NOTHING_PARKED, PartitionPosition
from tracking_order_state.errors import Fenced, PartitionStalled
from tracking_order_state.processing import worker
from tracking_order_state.processing.stages import (
    CommittedBatch,
    PartitionBatch,
    PartitionResult,
    PartitionState,
    ReceivedBatch,
)
from tracking_order_state.processing.worker import PartitionConsumer, Worker
from tracking_shared.messaging.consumer import Delivery
from tracking_shared.messaging.errors import BrokerUnavailable

PROMPT_SECONDS = 4
"""Far less than the time that a batch in work has to end."""


AT_START = PartitionPosition(0, 0, 1, NOTHING_PARKED)


class EmptyConsumer:
    """Nothing has arrived, and it does not matter here."""

    is_closed = False

    def take_bytes(self, limit: int) -> list[Delivery]:
        return []

    async def check(self) -> None:
        pass


def committed(received: ReceivedBatch) -> CommittedBatch:
    """The batch, with nothing in it."""
    parts = received.parts
    return CommittedBatch(
        received, [PartitionResult()] * len(parts), [part.may_be_unpublished for part in parts]
    )


def consumer_of(number: int) -> PartitionConsumer:
    """The consumer of a partition, to which nothing is delivered."""
    consumer = EmptyConsumer()
    return PartitionConsumer(PartitionState(number, consumer.check), consumer)  # type: ignore[arg-type]  # a fake


class FakeProcessor:
    """Claims every partition."""

    async def claim(self, partition: PartitionState) -> None:
        partition.position = AT_START

    async def receive(self, partition: PartitionState, deliveries: Sequence[Delivery]) -> PartitionBatch:
        partition.begin_batch()
        return PartitionBatch(partition, deliveries)

    async def publish_results(self, committed: CommittedBatch) -> None:
        pass


class LosingProcessor(FakeProcessor):
    """Commits all, and loses the broker when it publishes the first batch, once the second is committed."""

    def __init__(self) -> None:
        self.committed = 0
        self.published = 0
        self.second = asyncio.Event()

    async def commit(self, received: ReceivedBatch) -> CommittedBatch:
        self.committed += 1
        if self.committed == 2:
            self.second.set()
        return committed(received)

    async def publish_results(self, committed: CommittedBatch) -> None:
        self.published += 1
        await self.second.wait()
        raise BrokerUnavailable("lost")


async def ended(running: asyncio.Task[None]) -> None:
    """The worker is told to end, and has ended, however."""
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_broker_lost_while_a_batch_is_published_lets_go_of_the_next_one() -> None:
    processor = LosingProcessor()
    worker = Worker(processor)  # type: ignore[arg-type]  # a fake
    first, second = (consumer_of(number) for number in range(2))
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(PROMPT_SECONDS):
        await worker.handle(first)
        with pytest.raises(BrokerUnavailable):
            await worker.handle(second)
        with pytest.raises(BrokerUnavailable):
            await running
        await first.wait_until_idle()
        await second.wait_until_idle()
    # To acknowledge the second would acknowledge what came before it, too, which was not published.
    assert processor.published == 1


class FailingPublication(FakeProcessor):
    """Commits all, and fails to publish the first batch once the worker is stopping."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.stopping = asyncio.Event()

    async def commit(self, received: ReceivedBatch) -> CommittedBatch:
        return committed(received)

    async def publish_results(self, committed: CommittedBatch) -> None:
        await self.stopping.wait()
        raise self.error


@pytest.mark.parametrize(
    ("error", "logged"),
    [(BrokerUnavailable("lost"), []), (ZeroDivisionError("ours"), ["a batch could not be published"])],
    ids=["lost-connection", "own-fault"],
)
async def test_a_publication_that_fails_while_the_worker_ends_is_logged_unless_the_broker_was_lost(
    error: Exception, logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    processor = FailingPublication(error)
    worker = Worker(processor)  # type: ignore[arg-type]  # a fake
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(PROMPT_SECONDS):
        await worker.handle(consumer_of(0))
        running.cancel()
        processor.stopping.set()
        await asyncio.gather(running, return_exceptions=True)
    assert [record.getMessage() for record in caplog.records] == logged


class FencedProcessor(FakeProcessor):
    """One of two partitions is owned by another worker, which shows when the other one is committed."""

    def __init__(self) -> None:
        self.committed: list[tuple[int, bool]] = []

    async def commit(self, received: ReceivedBatch) -> CommittedBatch:
        if len(received.parts) > 1 or received.partitions[0].number == 1:
            raise Fenced("partition 1")
        self.committed += [(part.partition.number, part.may_be_unpublished) for part in received.parts]
        return committed(received)


async def test_what_may_be_committed_by_a_batch_that_was_fenced_is_published_when_it_is_tried_alone() -> None:
    processor = FencedProcessor()
    worker = Worker(processor)  # type: ignore[arg-type]  # a fake
    consumers = [consumer_of(number) for number in range(2)]
    handling = [asyncio.create_task(worker.handle(one)) for one in consumers]
    await asyncio.sleep(0)  # both ask before the worker runs
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(PROMPT_SECONDS):
        _, fenced = await asyncio.gather(*handling, return_exceptions=True)
    await ended(running)
    assert isinstance(fenced, Fenced)
    assert processor.committed == [(0, True)]


class OneBadPartition(FakeProcessor):
    """Partition 1 can be neither claimed nor committed, as it is told; the others can."""

    def __init__(self, *, fails_at: str) -> None:
        self.fails_at = fails_at
        self.committed: list[int] = []
        self.attempts: list[list[int]] = []

    def _fail(self, step: str, partitions: list[int]) -> None:
        if step == self.fails_at and 1 in partitions:
            self.attempts.append(partitions)
            raise PartitionStalled("the database fails at it")

    async def claim(self, partition: PartitionState) -> None:
        self._fail("claim", [partition.number])
        await super().claim(partition)

    async def commit(self, received: ReceivedBatch) -> CommittedBatch:
        numbers = [partition.number for partition in received.partitions]
        self._fail("commit", numbers)
        self.committed += numbers
        return committed(received)


@pytest.mark.parametrize("step", ["claim", "commit"])
async def test_a_partition_that_is_stalled_is_tried_again_alone_and_is_seen(
    step: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "STALLED_RETRY_SECONDS", 0.01)
    processor = OneBadPartition(fails_at=step)
    working = Worker(processor)  # type: ignore[arg-type]  # a fake
    consumers = [consumer_of(number) for number in range(3)]
    handling = [asyncio.create_task(working.handle(one)) for one in consumers]
    running = asyncio.create_task(working.run())
    async with asyncio.timeout(PROMPT_SECONDS):
        await asyncio.gather(handling[0], handling[2])
        while len(processor.attempts) < 4:
            for _ in range(2):  # the others go on as ever
                await working.handle(consumers[0])
            await asyncio.sleep(0.001)
        assert processor.attempts[-1] == [1]
        assert processor.attempts[1:] == [[1]] * len(processor.attempts[1:])
        assert metrics.STALLED_PARTITIONS.collect()[0].samples[0].value == 1
        assert metrics.OLDEST_BATCH_SECONDS.collect()[0].samples[0].value > 0.01
        assert "partition 1 is stalled, next attempt in 0 s: the database fails at it" in caplog.text
        processor.fails_at = ""
        await handling[1]
        await working.handle(consumers[1])
    await ended(running)
    assert processor.committed.count(1) == 2
    assert metrics.STALLED_PARTITIONS.collect()[0].samples[0].value == 0
    assert metrics.OLDEST_BATCH_SECONDS.collect()[0].samples[0].value == 0
