"""An event loop whose waits take no time: it goes straight on to the next thing that is due."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _HastySelector(selectors.DefaultSelector):
    """Adds up how long it was to wait, and does not wait."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0 if timeout is not None else None)
        if not found and timeout:
            self.skipped += timeout
        return found


class HastyLoop(asyncio.SelectorEventLoop):
    """For code that waits for nothing but time."""

    def __init__(self) -> None:
        self._hasty = _HastySelector()
        super().__init__(self._hasty)

    def time(self) -> float:
        """The clock, with all waits that were skipped."""
        return super().time() + self._hasty.skipped


def run_hastily(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` to its end."""
    with asyncio.Runner(loop_factory=HastyLoop) as runner:
        return runner.run(work)
