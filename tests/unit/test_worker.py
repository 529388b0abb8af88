"""The worker: which passes run beside one another, and what becomes of them when one cannot go on."""

import asyncio
from collections.abc import Sequence

import pytest

from order_state import metrics, worker
from order_state.faults import CannotGoOn, Fenced
from order_state.lines import NO_LINES
from order_state.passes import Recorded
from order_state.share import Share
from order_state.store import PartitionPosition
from order_state.worker import Subscription, Worker
from shared.broker import BrokerUnavailable, Delivery

PROMPT_SECONDS = 2
"""Far less than the patience that a pass in work is given."""


AT_START = PartitionPosition(0, 0, 1, NO_LINES)


class EmptyConsumer:
    """Nothing has arrived, and it does not matter here."""

    is_closed = False

    def take_bytes(self, limit: int) -> list[Delivery]:
        return []

    async def check(self) -> None:
        pass


class LosingPasses:
    """Records all, and loses the broker when it tells of the first pass, once the second is recorded."""

    def __init__(self) -> None:
        self.recorded = 0
        self.told = 0
        self.second = asyncio.Event()

    async def claim(self, share: Share) -> None:
        share.position = AT_START

    async def record(self, shares: Sequence[Share]) -> Recorded:
        self.recorded += 1
        if self.recorded == 2:
            self.second.set()
        return Recorded()

    async def tell(self, recorded: Recorded) -> None:
        self.told += 1
        await self.second.wait()
        raise BrokerUnavailable("lost")


async def ended(running: asyncio.Task[None]) -> None:
    """The worker is told to end, and has ended, however."""
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_broker_lost_while_a_pass_is_told_lets_go_of_the_next_one() -> None:
    passes = LosingPasses()
    worker = Worker(passes)  # type: ignore[arg-type]  # a fake
    first, second = (Subscription(number, EmptyConsumer()) for number in range(2))  # type: ignore[arg-type]
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(PROMPT_SECONDS):
        await worker.handle(first)
        with pytest.raises(BrokerUnavailable):
            await worker.handle(second)
        with pytest.raises(BrokerUnavailable):
            await running
        await first.settle()
        await second.settle()
    # To acknowledge the second would acknowledge what came before it, too, and of that nobody was told.
    assert passes.told == 1


class FencedPasses:
    """One of two partitions turns out to be somebody else's, when the other one is recorded already."""

    def __init__(self) -> None:
        self.recorded: list[Share] = []

    async def claim(self, share: Share) -> None:
        share.position = AT_START

    async def record(self, shares: Sequence[Share]) -> Recorded:
        if len(shares) > 1 or shares[0].partition == 1:
            raise Fenced("partition 1")
        self.recorded += shares
        return Recorded()

    async def tell(self, recorded: Recorded) -> None:
        pass


async def test_what_may_be_recorded_by_a_pass_that_was_fenced_is_announced_when_it_is_tried_alone() -> None:
    passes = FencedPasses()
    worker = Worker(passes)  # type: ignore[arg-type]  # a fake
    subscriptions = [Subscription(number, EmptyConsumer()) for number in range(2)]  # type: ignore[arg-type]
    handling = [asyncio.create_task(worker.handle(subscription)) for subscription in subscriptions]
    await asyncio.sleep(0)  # both ask before the worker runs
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(PROMPT_SECONDS):
        _, fenced = await asyncio.gather(*handling, return_exceptions=True)
    await ended(running)
    assert isinstance(fenced, Fenced)
    assert [(share.partition, share.is_repeat) for share in passes.recorded] == [(0, True)]


class OneBadPartition:
    """Partition 1 can be neither claimed nor committed, as it is told; the others can."""

    def __init__(self, *, fails_at: str) -> None:
        self.fails_at = fails_at
        self.recorded: list[int] = []
        self.attempts: list[list[int]] = []

    def _fail(self, step: str, partitions: list[int]) -> None:
        if step == self.fails_at and 1 in partitions:
            self.attempts.append(partitions)
            raise CannotGoOn("the database fails at it")

    async def claim(self, share: Share) -> None:
        self._fail("claim", [share.partition])
        share.position = AT_START

    async def record(self, shares: Sequence[Share]) -> Recorded:
        self._fail("record", [share.partition for share in shares])
        self.recorded += [share.partition for share in shares]
        return Recorded()

    async def tell(self, recorded: Recorded) -> None:
        pass


@pytest.mark.parametrize("step", ["claim", "record"])
async def test_a_partition_that_cannot_go_on_is_tried_again_alone_and_is_seen(
    step: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "FIRST_STALL_SECONDS", 0.01)
    passes = OneBadPartition(fails_at=step)
    working = Worker(passes)  # type: ignore[arg-type]  # a fake
    subscriptions = [Subscription(number, EmptyConsumer()) for number in range(3)]  # type: ignore[arg-type]
    handling = [asyncio.create_task(working.handle(subscription)) for subscription in subscriptions]
    running = asyncio.create_task(working.run())
    async with asyncio.timeout(PROMPT_SECONDS):
        await asyncio.gather(handling[0], handling[2])
        while len(passes.attempts) < 4:
            for _ in range(2):  # the others go on as ever
                await working.handle(subscriptions[0])
            await asyncio.sleep(0.001)
        assert passes.attempts[-1] == [1]
        assert passes.attempts[1:] == [[1]] * len(passes.attempts[1:])
        assert metrics.STALLED_PARTITIONS.collect()[0].samples[0].value == 1
        assert metrics.OLDEST_BATCH_SECONDS.collect()[0].samples[0].value > 0.01
        assert "partition 1 is stalled, next attempt in 0 s: the database fails at it" in caplog.text
        passes.fails_at = ""
        await handling[1]
        await working.handle(subscriptions[1])
    await ended(running)
    assert passes.recorded.count(1) == 2
    assert metrics.STALLED_PARTITIONS.collect()[0].samples[0].value == 0
    assert metrics.OLDEST_BATCH_SECONDS.collect()[0].samples[0].value == 0
