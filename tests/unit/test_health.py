"""A check that is shared: asked once for all who want to know, and its answer holds for a while."""

import asyncio

import pytest

from tracking_shared.http.health import SharedCheck
from tracking_shared.messaging.errors import BrokerUnavailable


class Dependency:
    """Counts how often it is asked; answers when the test says so."""

    def __init__(self) -> None:
        self.asked = 0
        self.away = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def check(self) -> None:
        self.asked += 1
        await self.answers.wait()
        if self.away:
            raise BrokerUnavailable("away")


async def test_many_who_ask_at_once_ask_one_time() -> None:
    dependency = Dependency()
    dependency.answers.clear()
    check = SharedCheck(dependency.check, 60)
    asking = [asyncio.create_task(check()) for _ in range(20)]
    await asyncio.sleep(0)
    asking[0].cancel()
    dependency.answers.set()
    ended = await asyncio.gather(*asking, return_exceptions=True)
    assert [isinstance(end, asyncio.CancelledError) for end in ended] == [True] + [False] * 19
    await check()
    assert dependency.asked == 1


async def test_a_failure_is_kept_and_told_to_all() -> None:
    dependency = Dependency()
    dependency.away = True
    check = SharedCheck(dependency.check, 60)
    for _ in range(3):
        with pytest.raises(BrokerUnavailable):
            await check()
    assert dependency.asked == 1


async def test_after_its_time_it_is_asked_again() -> None:
    dependency = Dependency()
    check = SharedCheck(dependency.check, 0)
    await check()
    dependency.away = True
    with pytest.raises(BrokerUnavailable):
        await check()
    assert dependency.asked == 2
