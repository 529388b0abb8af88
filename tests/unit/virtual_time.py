"""Runs a simulation: its sleeps take no time, and happen in the order of their ends."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _NoEvents(selectors.DefaultSelector):
    """Nothing ever comes from outside, so to wait for a timer is to let its time pass."""

    passed_seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Lets the time pass.

        Raises:
            AssertionError: everything waits for something that will not happen.
        """
        if found := super().select(0):
            return found
        assert timeout is not None, "nothing is left to happen"
        self.passed_seconds += timeout
        return []


class _VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._passing = _NoEvents()
        super().__init__(self._passing)

    def time(self) -> float:
        return self._passing.passed_seconds


def simulate(simulation: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine, and what it starts, in a time of its own that begins at 0."""
    with asyncio.Runner(loop_factory=_VirtualTimeLoop) as runner:
        runner.run(simulation)
