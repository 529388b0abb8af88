"""The bound on requests of one process, all webhooks together."""

import asyncio

from tracking_webhooks.processing.deadlines import Deadlines

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
        self._deadlines = Deadlines(PROMPT_SECONDS)

    def place(self, *, suspect: bool) -> "Place":
        """A place for one request, a context. `suspect`: the receiver failed before, or was never asked."""
        return Place(self._prompt, self._slow, self._deadlines, suspect=suspect)


class Place:
    """A place in one of the two."""

    __slots__ = ("_deadlines", "_held", "_moving", "_prompt", "_slow")

    def __init__(
        self, prompt: asyncio.Semaphore, slow: asyncio.Semaphore, deadlines: Deadlines, *, suspect: bool
    ) -> None:
        self._prompt = prompt
        self._slow = slow
        self._deadlines = deadlines
        self._held = slow if suspect else prompt
        self._moving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        await self._held.acquire()
        if self._held is self._prompt:
            self._deadlines.add(self, self._become_slow)

    async def __aexit__(self, *_: object) -> None:
        self._deadlines.discard(self)
        if self._moving is not None and not self._moving.done():
            self._moving.cancel()
        self._held.release()

    def _become_slow(self) -> None:
        self._moving = asyncio.create_task(self._move())

    async def _move(self) -> None:
        await self._slow.acquire()
        self._held = self._slow
        self._prompt.release()
