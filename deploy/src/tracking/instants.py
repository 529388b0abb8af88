"""Instants as options of the command line write them."""

from datetime import datetime

from shared.timestamps import to_milliseconds


def parse_instant(text: str) -> datetime | None:
    """The instant in UTC that an ISO 8601 text with an offset names; None where it names none."""
    try:
        time = datetime.fromisoformat(text)
        return to_milliseconds(time) if time.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
