"""Order statistics of measured times. Pure."""

from collections.abc import Sequence
from math import ceil


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of all values do not exceed (nearest rank)."""
    return sorted_values[max(ceil(share * len(sorted_values)), 1) - 1]


def summary_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum of times, in milliseconds."""
    ordered = sorted(seconds)
    return {
        "p50_ms": percentile(ordered, 0.5) * 1000,
        "p99_ms": percentile(ordered, 0.99) * 1000,
        "max_ms": ordered[-1] * 1000,
    }
