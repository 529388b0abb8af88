"""Cursors of lists: where the next page starts, sealed together with the filter that they belong to. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from query.sealed_cursors import seal, unseal
from shared.timestamps import UNIX_EPOCH

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a sorted list: the last order of a page."""

    time: datetime
    """Of the field that the list is sorted by."""

    order_id: str
    """Decides between equal times."""

    as_of: datetime | None = None
    """The horizon when the first page was read. A later one would not do for the list as a whole: an order
    that is changed meanwhile can move from a page that is still to come to one that is past."""


def encode_place(place: Place, binding: bytes, key: bytes) -> str:
    """The place as opaque text, for lists with this `binding` (filter and sort) only."""
    # The horizon stands behind a NUL, which sorts before all that an id can go on with: the release before,
    # which takes it for a part of the id, finds the same next page (or the last order once more).
    as_of = "" if place.as_of is None else f"\0{_milliseconds(place.as_of)}"
    return seal(f"{_milliseconds(place.time)}/{place.order_id}{as_of}".encode(), binding, key)


def decode_place(text: str, binding: bytes, key: bytes) -> Place:
    """The place that `encode_place` wrote.

    Raises:
        InvalidCursor: not one of ours, or of a list with another filter or sort.
    """
    milliseconds, _, rest = unseal(text, binding, key).decode().partition("/")
    order_id, _, as_of = rest.partition("\0")
    return Place(_time(milliseconds), order_id, _time(as_of) if as_of else None)


def _milliseconds(time: datetime) -> int:
    return (time - UNIX_EPOCH) // _MILLISECOND


def _time(milliseconds: str) -> datetime:
    return UNIX_EPOCH + int(milliseconds) * _MILLISECOND
