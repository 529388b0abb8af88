"""The bound on requests of one process, all webhooks together."""

import asyncio

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

    def place(self, *, suspect: bool) -> "Place":
        """A place for one request, a context. `suspect`: the receiver failed before, or was never asked."""
        return Place(self._prompt, self._slow, suspect=suspect)


class Place:
    """A place in one of the two."""

    __slots__ = ("_held", "_moving", "_prompt", "_slow", "_timer")

    def __init__(self, prompt: asyncio.Semaphore, slow: asyncio.Semaphore, *, suspect: bool) -> None:
        self._prompt = prompt
        self._slow = slow
        self._held = slow if suspect else prompt
        self._moving: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self._held.acquire()
        if self._held is self._prompt:
            self._timer = asyncio.get_running_loop().call_later(PROMPT_SECONDS, self._become_slow)

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._moving is not None and not self._moving.done():
            self._moving.cancel()
        self._held.release()

    def _become_slow(self) -> None:
        self._moving = asyncio.create_task(self._move())

    async def _move(self) -> None:
        await self._slow.acquire()
        self._held = self._slow
        self._prompt.release()
