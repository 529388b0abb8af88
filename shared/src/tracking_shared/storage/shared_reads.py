"""Concurrent reads of the same thing, made once."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SharedReads(Generic[Key, Value]):
    """Gives those who ask for a key while it is read the result of that read.

    The result of `read` may be of a moment before it was asked for, so it must say of which one, or never
    change.
    """

    def __init__(self) -> None:
        self._reads: dict[Key, asyncio.Task[Value]] = {}

    async def read(self, key: Key, fetch: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """The result of `fetch`, or of a read of the same key under way. Its errors go to all who wait for
        it, and it goes on when one of them is cancelled.
        """
        task = self._reads.get(key)
        if task is None:
            task = self._reads[key] = asyncio.create_task(fetch())
            task.add_done_callback(lambda done: self._end(key, done))
        return await asyncio.shield(task)

    async def read_anew(self, key: Key, fetch: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """As `read`, but of a read that begins after this call: it lacks nothing from before it."""
        if (under_way := self._reads.get(key)) is not None:
            await asyncio.wait([under_way])
        return await self.read(key, fetch)

    def _end(self, key: Key, task: asyncio.Task[Value]) -> None:
        del self._reads[key]
        if not task.cancelled():
            task.exception()  # else asyncio would log an error that nobody waits for any more
