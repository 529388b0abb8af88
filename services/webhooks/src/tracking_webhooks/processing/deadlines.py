"""Deadlines of very many requests, nearly all of which end before."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable


class Deadlines:
    """Calls back when a fixed time has passed. One timer of the loop serves all: they are due in the order in
    which they were added.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._open: OrderedDict[Hashable, tuple[float, Callable[[], None]]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, key: Hashable, on_due: Callable[[], None]) -> None:
        """Has `on_due` called in time, unless the key is discarded before."""
        loop = asyncio.get_running_loop()
        due_at = loop.time() + self._seconds
        self._open[key] = (due_at, on_due)
        if self._timer is None:
            self._timer = loop.call_at(due_at, self._call_due)

    def discard(self, key: Hashable) -> None:
        """Forgets a key, if it is there."""
        self._open.pop(key, None)

    def _call_due(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._open:
            key, (due_at, on_due) = next(iter(self._open.items()))
            if due_at > loop.time():
                self._timer = loop.call_at(due_at, self._call_due)
                return
            del self._open[key]
            on_due()
