"""Limits of callers. Pure but for the clock that they are given.

Rates: a token bucket for each principal. Concurrency: a bound on what is in progress at once, in all and for
each principal and merchant.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Literal, NamedTuple

from tracking_shared.contracts.access import Principal
from tracking_shared.errors import TrackingError

MAX_PRINCIPALS = 10_000
"""Buckets kept, some 200 bytes each. Whoever was longest away is forgotten first, and begins anew."""


class RateLimitState(NamedTuple):
    """The state of a bucket after tokens were asked for."""

    allowed: bool
    remaining: int
    """Tokens left at this moment, 0 or more."""
    full_seconds: int
    """Until the whole burst is allowed again."""
    wait_seconds: int
    """Until what was asked for would be allowed; 0 if it was."""


class TokenBucket:
    """A token bucket: `burst` at once, and regained at `per_second`. Times are seconds of a steady clock."""

    __slots__ = ("_burst", "_left", "_per_second", "_since")

    def __init__(self, burst: int, per_second: float, now: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._left = float(burst)
        self._since = now

    def take(self, now: float, cost: int = 1) -> RateLimitState:
        """Takes `cost` of what is left, or nothing if that is too much.

        A cost above the whole burst is allowed when the bucket is full, and leaves a debt.
        """
        burst, rate = self._burst, self._per_second
        left = min(burst, self._left + (now - self._since) * rate)
        missing = min(cost, burst) - left
        if missing <= 0:
            left -= cost
        self._left, self._since = left, now
        remaining = int(left) if left > 0 else 0
        wait = math.ceil(missing / rate) if missing > 0 else 0
        return RateLimitState(missing <= 0, remaining, math.ceil((burst - left) / rate), wait)


class RateLimiter:
    """A token bucket for each principal. Of one process: with several replicas a caller gets as much from
    each.
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
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self.policy = f'"principal";q={burst};w={math.ceil(burst / per_second)}'
        """The value of the field `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10)."""

    def take(self, subject: str, cost: int = 1) -> RateLimitState:
        """Takes `cost` from the bucket of this principal."""
        now = self._clock()
        bucket = self._buckets.pop(subject, None) or TokenBucket(self._burst, self._per_second, now)
        self._buckets[subject] = bucket
        if len(self._buckets) > self._max_principals:
            self._buckets.popitem(last=False)
        return bucket.take(now, cost)


def rate_limit_field(state: RateLimitState) -> str:
    """The value of the field `RateLimit` (same draft): what is left, and in how many seconds all is back."""
    return f'"principal";r={state.remaining};t={state.full_seconds}'


Exceeded = Literal["principal", "merchant", "all"]
"""The holder of the bound that is reached."""


class Holder(NamedTuple):
    """The principal and merchant for whom something is in progress."""

    subject: str
    merchant: str | None
    """None: it counts for no merchant."""


def holder_of(principal: Principal) -> Holder:
    """The caller's subject, and its merchant where its token names exactly one.

    A token for several merchants, or for all, is an operator's or a carrier's: it uses up no merchant's.
    """
    merchants = principal.grant.merchants
    if len(merchants) != 1 or principal.grant.every_merchant:
        return Holder(principal.subject, None)
    (merchant,) = merchants
    return Holder(principal.subject, merchant)


class LimitReached(TrackingError):
    """There is too much in progress: for this principal, for this merchant, or in all."""

    def __init__(self, exceeded: Exceeded, bound: int) -> None:
        super().__init__(f"{bound} at once for {exceeded}")
        self.exceeded = exceeded
        self.bound = bound


class Shares(NamedTuple):
    """Fractions of a whole, above 0 and up to 1, that one may have."""

    principal: float = 0.5
    merchant: float = 0.75

    def of(self, capacity: int) -> tuple[int, int]:
        """So many of `capacity` for a principal and for a merchant: rounded down, 1 at least."""
        return max(1, int(capacity * self.principal)), max(1, int(capacity * self.merchant))


class ConcurrencyLimit:
    """Counts what is in progress in this process. Nobody queues: who finds no room is refused.

    It remembers only those for whom something is in progress, so at most as many as its capacity.
    """

    def __init__(self, name: str, capacity: int, per_principal: int, per_merchant: int) -> None:
        """`name` says in metrics and refusals what is counted."""
        self.name = name
        self.capacity = capacity
        self._per_principal = per_principal
        self._per_merchant = per_merchant
        self._in_use = 0
        self._by_subject: Counter[str] = Counter()
        self._by_merchant: Counter[str] = Counter()

    @classmethod
    def with_shares(cls, name: str, capacity: int, shares: Shares) -> "ConcurrencyLimit":
        """A limit of which each principal and each merchant may use its share."""
        return cls(name, capacity, *shares.of(capacity))

    @property
    def in_use(self) -> int:
        """The number in progress."""
        return self._in_use

    @property
    def holders(self) -> int:
        """The number of principals and merchants for whom something is in progress."""
        return len(self._by_subject) + len(self._by_merchant)

    def acquire(self, holder: Holder) -> None:
        """Counts one more, which `release` ends.

        Raises:
            LimitReached: nothing is counted. A holder with too much learns that, even where all is in use.
        """
        subject, merchant = holder
        if self._by_subject[subject] >= self._per_principal:
            raise LimitReached("principal", self._per_principal)
        if merchant is not None and self._by_merchant[merchant] >= self._per_merchant:
            raise LimitReached("merchant", self._per_merchant)
        if self._in_use >= self.capacity:
            raise LimitReached("all", self.capacity)
        self._in_use += 1
        self._by_subject[subject] += 1
        if merchant is not None:
            self._by_merchant[merchant] += 1

    def release(self, holder: Holder) -> None:
        """Ends one that `acquire` counted for the same holder."""
        subject, merchant = holder
        self._in_use -= 1
        _count_down(self._by_subject, subject)
        if merchant is not None:
            _count_down(self._by_merchant, merchant)

    @contextmanager
    def held(self, holder: Holder) -> Iterator[None]:
        """Counts one more until the end of the body, however that ends.

        Raises:
            LimitReached: as `acquire`.
        """
        self.acquire(holder)
        try:
            yield
        finally:
            self.release(holder)


def _count_down(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
