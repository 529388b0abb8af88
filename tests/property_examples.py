"""How many examples a property is tried with: what its test says, in `make test-properties` a multiple."""

import os

from hypothesis import settings

FACTOR = int(os.environ.get("EXAMPLES_FACTOR", "1"))


def max_examples(number: int) -> settings:
    """The settings of a property that `make test` tries with at most so many examples."""
    return settings(max_examples=number * FACTOR)
