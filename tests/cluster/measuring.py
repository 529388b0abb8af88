"""What the answers to a steady stream of probes say about an outage. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

STEADY_SECONDS = 3.0
"""So long every partition must have been answered for before an outage counts as over."""


def longest_gap_seconds(times: Iterable[float], since: float, until: float) -> float:
    """The longest stretch of the span without one of `times` (seconds of one clock, in any order).

    The last one before `since` is where the first stretch begins: an outage does not begin with an answer.
    """
    rising = sorted(times)
    before = [at for at in rising if at <= since][-1:]
    marks = [*(before or [since]), *(at for at in rising if since < at < until), until]
    return max(later - earlier for earlier, later in pairwise(marks))


def outage_seconds(answers: Mapping[int, Sequence[float]], since: float, until: float) -> float:
    """The longest gap of any partition. `answers`: times of good answers, by partition."""
    return max(longest_gap_seconds(times, since, until) for times in answers.values())


def is_steady(answers: Mapping[int, Sequence[float]], now: float, *, largest_gap_seconds: float) -> bool:
    """Whether in the last `STEADY_SECONDS` no partition had a gap larger than that."""
    return outage_seconds(answers, now - STEADY_SECONDS, now) <= largest_gap_seconds
