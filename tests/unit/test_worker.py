"""The worker: which passes run beside one another, and what becomes of them when one cannot go on."""

import asyncio
from collections.abc import Sequence

import pytest

from order_state.faults import Fenced
from order_state.passes import Recorded
from order_state.share import Share
from order_state.worker import Subscription, Worker
from shared.broker import BrokerUnavailable, Delivery

PROMPT_SECONDS = 2
"""Far less than the patience that a pass in work is given."""


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
