"""Uses of the database by a command that runs for long beside the services: short ones, with pauses."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from tracking_shared.step_size import StepSize

REST_FACTOR = 2.0
"""The pause after each use of the database, in times of what that took, so that others have two thirds of the
time."""

T = TypeVar("T")


class DatabasePace:
    """One use of the database at a time, each followed by a pause."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[None]:
        """For one use."""
        async with self._lock:
            started = _time()
            yield
            await asyncio.sleep(REST_FACTOR * (_time() - started))


class PacedSteps:
    """Work on orders in steps of as many events as the database takes in about the same time."""

    def __init__(self, pace: DatabasePace, size: StepSize) -> None:
        """`size`: in events."""
        self._pace = pace
        self._size = size

    async def over(
        self, events: Mapping[str, int], work: Callable[[list[str]], Awaitable[T]]
    ) -> AsyncGenerator[T]:
        """Calls `work` with some of the orders at a time, at least one, until all are done. Yields what it
        returns. `events`: the number of events of each order.
        """
        left = deque(events.items())
        while left:
            order_ids, number = _first(left, self._size.items)
            async with self._pace.use():
                started = _time()
                result = await work(order_ids)
                self._size = self._size.after(number, _time() - started)
            yield result


def _time() -> float:
    return asyncio.get_running_loop().time()


def _first(orders: deque[tuple[str, int]], most: int) -> tuple[list[str], int]:
    """Takes the first orders with at most so many events together, or one that has more. Returns them and
    their number of events.
    """
    taken: list[str] = []
    events = 0
    while orders and (not taken or events + orders[0][1] <= most):
        order_id, number = orders.popleft()
        taken.append(order_id)
        events += number
    return taken, events
