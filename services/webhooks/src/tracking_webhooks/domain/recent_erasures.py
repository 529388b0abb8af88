"""The orders whose customer was erased lately, as the log says. Pure; times are of a monotonic clock."""

from math import inf

MAX_ERASED_ORDERS = 10_000
"""Remembered, some 150 bytes each. Of those before them it is not known any more which they were."""


class RecentErasures:
    """Remembers the erased orders among the new events of the log."""

    def __init__(self, maximum: int = MAX_ERASED_ORDERS) -> None:
        self._maximum = maximum
        self._noticed_at: dict[str, float] = {}
        """By order, the oldest first."""
        self._complete_since = inf
        """All erasures that were noticed later are remembered. Infinity: nothing is known yet."""

    def start(self, now: float) -> None:
        """From `now` on, every erasure is added."""
        self._noticed_at.clear()
        self._complete_since = now

    def add(self, order_id: str, now: float) -> None:
        """The event of an erasure was read from the log."""
        self._noticed_at.pop(order_id, None)
        self._noticed_at[order_id] = now
        if len(self._noticed_at) > self._maximum:
            oldest = next(iter(self._noticed_at))
            self._complete_since = self._noticed_at.pop(oldest)

    def may_concern(self, order_id: str, read_at: float) -> bool:
        """True if an event of the order that was read at this time may contain a customer who was erased
        since.
        """
        return read_at <= self._complete_since or self._noticed_at.get(order_id, -inf) >= read_at
