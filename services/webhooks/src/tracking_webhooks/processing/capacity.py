"""The bound on requests of one process, all webhooks together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PROMPT_REQUESTS = 256
"""At a time, of those that were begun a moment ago."""

SLOW_REQUESTS = 2_048
"""At a time, of those that wait for long, or of webhooks that failed. Each costs a socket and some 20 KB."""

PROMPT_SECONDS = 1.0
"""A request that takes longer gives its place up to others, and goes on among the slow ones."""


class Capacity:
    """Places for requests: of prompt receivers, and of slow or failing ones, which so hold up no others."""

    def __init__(self, prompt: int = PROMPT_REQUESTS, slow: int = SLOW_REQUESTS) -> None:
        self._prompt = asyncio.Semaphore(prompt)
        self._slow = asyncio.Semaphore(slow)

    @asynccontextmanager
    async def place(self, *, suspect: bool) -> AsyncIterator[None]:
        """A place for one request. `suspect`: the receiver failed before, or was never asked."""
        held = _Place(self._prompt, self._slow)
        await held.take(suspect=suspect)
        timer = asyncio.get_running_loop().call_later(PROMPT_SECONDS, held.become_slow)
        try:
            yield
        finally:
            timer.cancel()
            held.give_up()


class _Place:
    """A place in one of the two."""

    def __init__(self, prompt: asyncio.Semaphore, slow: asyncio.Semaphore) -> None:
        self._prompt = prompt
        self._slow = slow
        self._held = prompt
        self._moving: asyncio.Task[None] | None = None

    async def take(self, *, suspect: bool) -> None:
        self._held = self._slow if suspect else self._prompt
        await self._held.acquire()

    def become_slow(self) -> None:
        if self._held is self._prompt:
            self._moving = asyncio.create_task(self._move())

    async def _move(self) -> None:
        await self._slow.acquire()
        self._held = self._slow
        self._prompt.release()

    def give_up(self) -> None:
        if self._moving is not None and not self._moving.done():
            self._moving.cancel()
        self._held.release()
