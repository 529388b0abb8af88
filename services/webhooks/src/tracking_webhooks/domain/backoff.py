"""Waits between attempts. Pure: the random part is an argument."""

FIRST_WAIT_SECONDS = 5.0

MAX_WAIT_SECONDS = 3600.0

MAX_RETRY_AFTER_SECONDS = 24 * 3600.0
"""A receiver may ask for a longer wait than ours, within this bound."""

GIVE_UP_SECONDS = 3 * 24 * 3600.0
"""An endpoint that has failed for so long is disabled."""

_JITTER = 0.2
"""Less than a third, so that each wait is longer than the one before: the doubled wait, shortened by this,
is longer than the one before, lengthened by it."""


def wait_seconds(failures: int, retry_after: float | None, chance: float) -> float:
    """The wait after so many failures in a row (1 or more). `chance` is a random number from 0 to 1."""
    doubled: float = FIRST_WAIT_SECONDS * 2 ** min(failures - 1, 20)
    highest = MAX_WAIT_SECONDS / (1 + _JITTER)
    spread = min(doubled, highest) * (1 - _JITTER + 2 * _JITTER * chance)
    return max(min(spread, MAX_WAIT_SECONDS), min(retry_after or 0.0, MAX_RETRY_AFTER_SECONDS))
