"""Work beside a body: it ends with it, also where a cancellation is lost, and is brought to its end."""

import asyncio
from contextlib import suppress

import pytest

from tracking_shared import serving
from tracking_shared.serving import background


async def loses_a_cancellation() -> None:
    """As `asyncio.wait_for` of Python 3.11 does."""
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(3600)
    await asyncio.sleep(3600)


async def test_work_that_loses_its_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "CANCEL_AGAIN_SECONDS", 0.01)
    async with asyncio.timeout(10), background(loses_a_cancellation(), asyncio.sleep(3600)):
        await asyncio.sleep(0)


async def test_what_is_around_it_may_lose_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "CANCEL_AGAIN_SECONDS", 0.01)

    async def inner() -> None:
        async with background(loses_a_cancellation()):
            await asyncio.sleep(3600)

    async with asyncio.timeout(10), background(inner()):
        await asyncio.sleep(0)


@pytest.mark.parametrize("fails", [False, True])
async def test_work_is_brought_to_its_end_and_is_cancelled_once(fails: bool) -> None:
    ended = []

    async def ends_in_order() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            ended.append(True)

    async def breaks() -> None:
        await asyncio.sleep(0)
        if fails:
            raise ValueError("broken")

    async def run() -> None:
        async with background(ends_in_order(), breaks()):
            await asyncio.sleep(3600 if fails else 0.01)

    if fails:
        with pytest.raises(ExceptionGroup):
            await run()
    else:
        await run()
    assert ended == [True]
