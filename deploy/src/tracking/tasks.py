"""Coroutines side by side, none of which is left behind when the others end."""

import asyncio
from collections.abc import Awaitable, Sequence


async def first_of(*works: Awaitable[None]) -> None:
    """Runs `works` concurrently until one ends or fails, then cancels the others.

    Raises the error of the first one.
    """
    await _run(works, asyncio.FIRST_COMPLETED)


async def all_of(*works: Awaitable[None]) -> None:
    """Runs `works` concurrently until all have ended; if one fails, cancels the others and raises."""
    await _run(works, asyncio.FIRST_EXCEPTION)


async def _run(works: Sequence[Awaitable[None]], return_when: str) -> None:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=return_when)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
