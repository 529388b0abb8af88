"""Bounds on what clients may take: connections in all and of one principal or merchant, messages,
resynchronisations.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from notifier.metrics import CONNECTIONS
from notifier.protocol import TOO_MANY, Refusal
from shared.concurrency_limits import ConcurrencyLimit, Holder, LimitReached, Shares
from shared.edges import refusal_of
from shared.metrics import REFUSED
from shared.problems import Problem

MESSAGES_PER_SECOND = 5.0
MESSAGES_AT_ONCE = 20
"""A person who changes filters sends a few in a minute; a subscribe with a snapshot costs milliseconds."""

RESYNCS_AT_ONCE = 3
RESYNCS_PER_SECOND = 1 / 60
"""Of one connection that falls behind. Each costs a snapshot; one that needs more cannot keep up at all."""


class Admission:
    """Counts the connections of this process."""

    def __init__(self, max_connections: int, max_per_principal: int | None, shares: Shares) -> None:
        """Without `max_per_principal` it is the share of one."""
        per_principal, per_merchant = shares.of(max_connections)
        self._max_connections = max_connections
        self._connections = 0
        self._known = ConcurrencyLimit(
            "connections", max_connections, max_per_principal or per_principal, per_merchant
        )

    @contextmanager
    def connection(self) -> Iterator[None]:
        """The time that a connection is open.

        Raises:
            Refusal: there are too many.
        """
        if self._connections >= self._max_connections:
            REFUSED.labels("connections", "all").inc()
            raise _too_many(f"The server takes {self._max_connections} connections.")
        self._connections += 1
        CONNECTIONS.inc()
        try:
            yield
        finally:
            self._connections -= 1
            CONNECTIONS.dec()

    def enter(self, holder: Holder) -> None:
        """A connection turns out to be this principal's.

        Raises:
            Refusal: it has too many, or its merchant has.
        """
        try:
            self._known.acquire(holder)
        except LimitReached as reached:
            raise Refusal(TOO_MANY, "too many", refusal_of(self._known, reached)) from None

    def leave(self, holder: Holder) -> None:
        """A connection that `enter` let in is gone."""
        self._known.release(holder)


class Allowance:
    """A token bucket: so many at once, and regained at this pace."""

    __slots__ = ("_at_once", "_left", "_per_second", "_since")

    def __init__(self, at_once: int, per_second: float, now: float) -> None:
        self._at_once = at_once
        self._per_second = per_second
        self._left = float(at_once)
        self._since = now

    def spend(self, now: float) -> bool:
        """Takes one at `now` (seconds of a steady clock); False if none was left."""
        gained = (now - self._since) * self._per_second
        self._left = min(self._at_once, self._left + gained) - 1
        self._since = now
        return self._left >= 0


class MessageRate:
    """How fast the messages of one connection may come."""

    __slots__ = ("_allowance",)

    def __init__(self, now: float) -> None:
        self._allowance = Allowance(MESSAGES_AT_ONCE, MESSAGES_PER_SECOND, now)

    def spend(self, now: float) -> None:
        """A message arrives at `now` (seconds of a steady clock).

        Raises:
            Refusal: they arrive too fast.
        """
        if not self._allowance.spend(now):
            raise _too_many(f"Send at most {MESSAGES_PER_SECOND:g} messages per second.")


def _too_many(detail: str) -> Refusal:
    return Refusal(TOO_MANY, "too many", Problem("too-many-requests", detail))
