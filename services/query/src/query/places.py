"""Places for expensive answers: so many at once in one process, and further ones are put off."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from shared.problems import ProblemError


class Places:
    """A fixed number of them. Nobody queues: who finds none is told to repeat the request later."""

    def __init__(self, number: int, refusal: str, gauge: Gauge | None = None) -> None:
        """`refusal` says what is going on where there is no place; `gauge` shows how many are taken."""
        self._free = number
        self._refusal = refusal
        self._gauge = gauge

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Takes a place, and gives it back at the end.

        Raises:
            ProblemError: `too-many-requests`.
        """
        if self._free == 0:
            raise ProblemError("too-many-requests", self._refusal)
        self._free -= 1
        if self._gauge:
            self._gauge.inc()
        try:
            yield
        finally:
            self._free += 1
            if self._gauge:
                self._gauge.dec()
