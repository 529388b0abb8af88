"""How long a read may take that answers a request: each is bounded, in the database too."""

from collections.abc import Iterator
from contextlib import contextmanager

import pymongo

from shared.database import driver_errors

READ_SECONDS = 5.0
"""The driver sends what is left of it as `maxTimeMS`, and stops waiting by itself when it has passed."""


@contextmanager
def bounded_read(seconds: float = READ_SECONDS) -> Iterator[None]:
    """Ends what the database is asked inside after `seconds`, and turns the driver's errors into ours.

    Raises:
        DatabaseUnavailable: no answer, or not in time.
    """
    with driver_errors(), pymongo.timeout(seconds):
        yield
