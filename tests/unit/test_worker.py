"""The worker: which passes run beside one another, and what becomes of them when one cannot go on."""

import asyncio
from collections.abc import Sequence

import pytest

from order_state.faults import Fenced
from order_state.passes import Recorded
from order_state.share import Share
from order_state.worker import PASS_BYTES, Subscription, Worker
from shared.broker import BrokerUnavailable, Delivery

PROMPT_SECONDS = 2
"""Far less than the patience that a pass in work is given."""


class EmptyConsumer:
    """What has arrived does not matter here, only how much."""

    is_closed = False

    def __init__(self, arrived_bytes: int = 0) -> None:
        self.arrived_bytes = arrived_bytes

    def take_bytes(self, limit: int) -> list[Delivery]:
        return []

    async def check(self) -> None:
        pass


class LosingPasses:
    """Records all, and loses the broker when it tells of the first pass, once the second is recorded."""

    def __init__(self) -> None:
        self.recorded = 0
        self.second = asyncio.Event()

    async def record(self, shares: Sequence[Share]) -> Recorded:
        self.recorded += 1
        if self.recorded == 2:
            self.second.set()
        return Recorded()

    async def tell(self, recorded: Recorded) -> None:
        await self.second.wait()
        raise BrokerUnavailable("lost")


async def ended(running: asyncio.Task[None]) -> None:
    """The worker is told to end, and has ended, however."""
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_broker_lost_while_a_pass_is_told_lets_go_of_the_next_one() -> None:
    worker = Worker(LosingPasses())  # type: ignore[arg-type]  # a fake
    first, second = (Subscription(number, EmptyConsumer()) for number in range(2))  # type: ignore[arg-type]
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(PROMPT_SECONDS):
        await worker.handle(first)
        with pytest.raises(BrokerUnavailable):
            await worker.handle(second)
        with pytest.raises(ExceptionGroup, check=lambda group: group.split(BrokerUnavailable)[1] is None):
            await running
        await first.settle()
        await second.settle()


class FencedPasses:
    """One of two partitions turns out to be somebody else's, when the other one is recorded already."""

    def __init__(self) -> None:
        self.recorded: list[Share] = []

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


class SteppedPasses:
    """Records and tells when it is let to."""

    def __init__(self, loses: bool = False) -> None:
        self.recording: list[int] = []
        self.told: list[int] = []
        self.begun = asyncio.Semaphore(0)
        self.may_record = asyncio.Semaphore(0)
        self.may_tell = asyncio.Semaphore(0)
        self._loses = loses

    async def record(self, shares: Sequence[Share]) -> Recorded:
        self.recording += [share.partition for share in shares]
        self.begun.release()
        await self.may_record.acquire()
        return Recorded(shares)

    async def tell(self, recorded: Recorded) -> None:
        self.told += [share.partition for share in recorded.shares]
        await self.may_tell.acquire()
        if self._loses:
            raise BrokerUnavailable("not confirmed in time")


@pytest.mark.parametrize(
    ("arrived_bytes", "beside"),
    [(PASS_BYTES, [0, 1]), (PASS_BYTES // 2 - 1, [0])],
    ids=["a pass full", "less"],
)
async def test_a_pass_is_prepared_while_another_commits_where_more_waits_than_it_takes(
    arrived_bytes: int, beside: list[int]
) -> None:
    passes = SteppedPasses()
    worker = Worker(passes)  # type: ignore[arg-type]  # a fake
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(PROMPT_SECONDS):
        handling = []
        for number in range(3):
            subscription = Subscription(number, EmptyConsumer(arrived_bytes))  # type: ignore[arg-type]
            handling.append(asyncio.create_task(worker.handle(subscription)))
            if number in beside:
                await passes.begun.acquire()
        for _ in range(10):  # whatever the worker would begin, it has begun
            await asyncio.sleep(0)
        assert passes.recording == beside
        for _ in range(3):
            passes.may_record.release()
            passes.may_tell.release()
        await asyncio.gather(*handling)
    await ended(running)
    assert passes.recording == [0, 1, 2]


async def test_nothing_is_told_after_what_could_not_be_told() -> None:
    """To acknowledge it would acknowledge the deliveries before it, which nobody was told of."""
    passes = SteppedPasses(loses=True)
    worker = Worker(passes)  # type: ignore[arg-type]  # a fake
    running = asyncio.create_task(worker.run())
    subscription = Subscription(0, EmptyConsumer())  # type: ignore[arg-type]
    async with asyncio.timeout(PROMPT_SECONDS):
        passes.may_record.release()
        await worker.handle(subscription)
        passes.may_record.release()
        again = asyncio.create_task(worker.handle(subscription))
        await passes.begun.acquire()
        await passes.begun.acquire()
        passes.may_tell.release()
        passes.may_tell.release()
        with pytest.raises(BrokerUnavailable):
            await again
    await ended(running)
    assert passes.told == [0]
