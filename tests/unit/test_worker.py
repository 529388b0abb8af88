"""The worker: a broker that is lost while a pass is told holds nobody up."""

import asyncio
from collections.abc import Sequence

import pytest

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
        self.second = asyncio.Event()

    async def record(self, shares: Sequence[Share]) -> Recorded:
        self.recorded += 1
        if self.recorded == 2:
            self.second.set()
        return Recorded()

    async def tell(self, recorded: Recorded) -> None:
        await self.second.wait()
        raise BrokerUnavailable("lost")


async def test_a_broker_lost_while_a_pass_is_told_lets_go_of_the_next_one() -> None:
    worker = Worker(LosingPasses())  # type: ignore[arg-type]  # a fake
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
