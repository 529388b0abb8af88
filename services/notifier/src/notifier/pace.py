"""The pace of the feed: how long it rests after a flush, so that what comes meanwhile travels together."""

REST_FACTOR = 3.0
"""Rest for so many times as long as the flushes take: they get a quarter of the time. A flush to one
dashboard takes 50 µs, to a thousand 7 ms, nearly all of it the kernel's, one write per client: with 200
events a second that is the difference between 2.7 and 1.0 µs an event and client."""

ALLOWED_SECONDS = 0.05
"""So much rest may be owed: single events, 40 ms apart, to a thousand dashboards are not delayed."""

MAX_REST_SECONDS = 0.05


class Pace:
    """How much rest is owed. Times are seconds of a steady clock."""

    def __init__(self) -> None:
        self._owed = 0.0
        self._flushed_at = 0.0

    def rest_after(self, began_at: float, flushed_at: float) -> float:
        """How long to rest after the flush between these times; at most `MAX_REST_SECONDS`."""
        rested = began_at - self._flushed_at
        self._flushed_at = flushed_at
        owed = max(self._owed - rested, 0.0) + REST_FACTOR * (flushed_at - began_at)
        self._owed = min(owed, ALLOWED_SECONDS + MAX_REST_SECONDS)
        return max(self._owed - ALLOWED_SECONDS, 0.0)
