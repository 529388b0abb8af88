"""Deadlines of many requests with one timer."""

import asyncio
from time import monotonic

from tracking_webhooks.processing.deadlines import Deadlines

SECONDS = 0.05


async def test_those_that_were_not_discarded_are_called_in_time_and_once() -> None:
    deadlines, called = Deadlines(SECONDS), asyncio.Queue[tuple[str, float]]()
    began = monotonic()

    def add(name: str) -> None:
        deadlines.add(name, lambda: called.put_nowait((name, monotonic() - began)))

    for name in ("first", "ended", "second"):
        add(name)
    deadlines.discard("ended")
    deadlines.discard("unknown")
    async with asyncio.timeout(10):
        found = [await called.get() for _ in range(2)]
        add("later")  # after the timer has run out
        found.append(await called.get())

    assert [name for name, _ in found] == ["first", "second", "later"]
    assert all(at >= SECONDS for _, at in found)
    assert found[2][1] >= 2 * SECONDS
    assert called.empty()
