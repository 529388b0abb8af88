"""Cursors of lists: where the next page starts, sealed together with the filter that they belong to. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from query.sealed_cursors import seal, unseal

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a sorted list: the last order of a page."""

    time: datetime
    """Of the field that the list is sorted by."""

    order_id: str
    """Decides between equal times."""


def encode_place(place: Place, binding: bytes, key: bytes) -> str:
    """The place as opaque text, for lists with this `binding` (filter and sort) only."""
    return seal(f"{(place.time - _EPOCH) // _MILLISECOND}/{place.order_id}".encode(), binding, key)


def decode_place(text: str, binding: bytes, key: bytes) -> Place:
    """The place that `encode_place` wrote.

    Raises:
        InvalidCursor: not one of ours, or of a list with another filter or sort.
    """
    milliseconds, _, order_id = unseal(text, binding, key).decode().partition("/")
    return Place(_EPOCH + int(milliseconds) * _MILLISECOND, order_id)
