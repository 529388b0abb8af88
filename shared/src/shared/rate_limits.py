"""How often a caller may ask: a token bucket for each principal. Pure but for the clock that it is given."""

import math
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

MAX_PRINCIPALS = 10_000
"""Buckets kept, some 200 bytes each. Whoever was longest away is forgotten first, and begins anew."""


class Standing(NamedTuple):
    """Where a principal stands after asking."""

    allowed: bool
    remaining: int
    """How many more are allowed at this moment, 0 or more."""
    full_seconds: int
    """Until the whole burst is allowed again."""
    wait_seconds: int
    """Until what was asked for would be allowed; 0 if it was."""


class RateLimiter:
    """So many a second for each principal, and more at once after a rest. Of one process: with several
    replicas a caller gets as much from each.
    """

    def __init__(
        self,
        per_second: float,
        burst: int,
        *,
        clock: Callable[[], float] = monotonic,
        max_principals: int = MAX_PRINCIPALS,
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._max_principals = max_principals
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self.policy = f'"principal";q={burst};w={math.ceil(burst / per_second)}'
        """The value of the field `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10)."""

    def take(self, subject: str, cost: int = 1) -> Standing:
        """Takes `cost` of what is left, or nothing if that is too much.

        What costs more than a whole burst is allowed when the bucket is full, and leaves a debt.
        """
        now = self._clock()
        buckets, burst, rate = self._buckets, self._burst, self._per_second
        left, since = buckets.pop(subject, (float(burst), now))
        left = min(burst, left + (now - since) * rate)
        missing = min(cost, burst) - left
        if missing <= 0:
            left -= cost
        buckets[subject] = (left, now)
        if len(buckets) > self._max_principals:
            buckets.popitem(last=False)
        full = math.ceil((burst - left) / rate)
        if missing <= 0:
            return Standing(True, int(left) if left > 0 else 0, full, 0)
        return Standing(False, int(left) if left > 0 else 0, full, math.ceil(missing / rate))


def rate_limit_field(standing: Standing) -> str:
    """The value of the field `RateLimit` (same draft): what is left, and in how many seconds all is back."""
    return f'"principal";r={standing.remaining};t={standing.full_seconds}'
