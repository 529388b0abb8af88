"""How much may be in progress at once: in all, and of that for each principal and each merchant. Pure."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

from shared.access import Principal

Exceeded = Literal["principal", "merchant", "all"]
"""Whose bound is reached."""


class Holder(NamedTuple):
    """For whom something is in progress."""

    subject: str
    merchant: str | None
    """None: it counts for no merchant."""


def holder_of(principal: Principal) -> Holder:
    """What the caller's requests count for: its subject, and its merchant where its token names exactly one.

    A token for several merchants, or for all, is an operator's or a carrier's: it uses up no merchant's.
    """
    merchants = principal.grant.merchants
    if len(merchants) != 1 or principal.grant.every_merchant:
        return Holder(principal.subject, None)
    (merchant,) = merchants
    return Holder(principal.subject, merchant)


class LimitReached(Exception):
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
        """How much is in progress."""
        return self._in_use

    @property
    def holders(self) -> int:
        """For how many principals and merchants something is in progress."""
        return len(self._by_subject) + len(self._by_merchant)

    def acquire(self, holder: Holder) -> None:
        """Counts one more, which `release` ends.

        Raises:
            LimitReached: nothing is counted. Who has too much is told so, also where all is in use.
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
