"""Instants as options of the command line write them."""

import re
from datetime import datetime

from shared.timestamps import parse_time, to_milliseconds

_WITHOUT_SECONDS = re.compile(r"(.{10}[Tt ][0-9]{2}:[0-9]{2})([Zz+-].*)")


def parse_instant(text: str) -> datetime | None:
    """The instant in UTC that an RFC 3339 text names, which may leave out the seconds; None where it names
    none.
    """
    try:
        return to_milliseconds(parse_time(_WITHOUT_SECONDS.sub(r"\1:00\2", text)))
    except (ValueError, OverflowError):
        return None
