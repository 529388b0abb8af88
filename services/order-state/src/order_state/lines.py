"""Lines: which orders have something parked, and how much. Pure; the commands themselves are in `parked`."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from shared.documents import ParkedLineDocument


class Line(NamedTuple):
    """The parked commands of one order: the places of the first and the last, with none missing between."""

    first: int
    last: int

    @property
    def waiting(self) -> int:
        """How many there are. 0: the order is not parked any more."""
        return self.last - self.first + 1

    def with_one_more(self) -> "Line":
        """With another command at the end."""
        return Line(self.first, self.last + 1)

    def without_first(self) -> "Line":
        """With the first command through."""
        return Line(self.first + 1, self.last)


NEW_LINE = Line(1, 0)

Lines = Mapping[str, Line]
"""The orders of a partition that have something parked, by their ids."""

NO_LINES: Lines = MappingProxyType({})


def lines_after(lines: Lines, changed: Lines) -> Lines:
    """`lines` with `changed` ones in their place; an empty one is gone."""
    return {order_id: line for order_id, line in {**lines, **changed}.items() if line.waiting}


def decode_lines(documents: Sequence[ParkedLineDocument]) -> Lines:
    """The lines as a partition's document holds them."""
    return {document["order_id"]: Line(document["first"], document["last"]) for document in documents}


def encode_lines(lines: Lines) -> list[ParkedLineDocument]:
    """The lines for a partition's document: a list, since an order id is no name for a field."""
    return [
        {"order_id": order_id, "first": line.first, "last": line.last} for order_id, line in lines.items()
    ]
