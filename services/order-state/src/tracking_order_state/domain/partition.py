"""The state of a partition between two transactions: position, horizon, parked orders, held updates. Pure.

Nothing recorded before the horizon of a partition can be committed there any more. Its owner records at no
earlier time, and each commit moves the horizon on to the time of what it writes, behind the fence. So a later
commit, of whichever owner with whichever clock, brings nothing earlier: whoever reads the horizon first and
then the data has read everything before it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from tracking_shared.contracts.documents import (
    ParkedLineDocument,
    PartitionDocument,
    horizon_of,
    log_start_of,
)
from tracking_shared.contracts.timestamps import UNIX_EPOCH

HORIZON_DUE_AFTER = timedelta(milliseconds=500)
"""The lag of the horizon where there is nothing to write. With a tick every second it is at most
1.5 s and one commit behind; readers are promised 2 s."""


class ParkedRange(NamedTuple):
    """The parked commands of one order: the places of the first and the last, with none missing between."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """The number of commands. 0: the order is not parked any more."""
        return self.last - self.first + 1

    def with_one_more(self) -> "ParkedRange":
        """The range with another command at the end."""
        return ParkedRange(self.first, self.last + 1)

    def without_first(self) -> "ParkedRange":
        """The range once the first command is released."""
        return ParkedRange(self.first + 1, self.last)


EMPTY_RANGE = ParkedRange(1, 0)

ParkedOrders = Mapping[str, ParkedRange]
"""The parked orders of a partition, by their ids."""

NOTHING_PARKED: ParkedOrders = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PartitionPosition:
    """The state of a partition after one claim or commit. The next commit is fenced by it."""

    partition: int
    seq: int
    """Of the newest event."""
    commits: int
    """Claims and commits so far: the fence compares this number."""
    parked_orders: ParkedOrders
    horizon: datetime = UNIX_EPOCH
    held: int = 0
    """The number of held updates."""
    archived: int = 0
    """The number of archived orders."""
    log_start: int = 0
    """The highest seq of an archived event."""
    archived_until: datetime = UNIX_EPOCH
    """Nothing recorded later was archived."""
    generation: int = 0
    """The newest generation of the layout of partitions."""

    @classmethod
    def decode(cls, document: PartitionDocument) -> "PartitionPosition":
        """The position that is stored in a partition's document."""
        parked = {one["order_id"]: ParkedRange(one["first"], one["last"]) for one in document["parked"]}
        return cls(
            document["_id"],
            document["seq"],
            document["commits"],
            parked,
            horizon_of(document),
            document.get("held", 0),
            document.get("archived", 0),
            log_start_of(document),
            document.get("archived_until", UNIX_EPOCH),
            document.get("generation", 0),
        )

    def recording_time(self, clock: datetime) -> datetime:
        """The time of what is decided at `clock`. While the clock is behind the horizon, as after a take-over
        by a process whose clock is slower, time stands still at the horizon.
        """
        return max(self.horizon, clock)

    def is_horizon_due(self, time: datetime) -> bool:
        """True if the horizon is to be moved on to `time` though nothing else is to be written."""
        return time - self.horizon >= HORIZON_DUE_AFTER

    def with_archived(self, orders: int, log_start: int, until: datetime) -> "PartitionPosition":
        """The position with so many more archived orders, whose events end at `log_start` and `until`."""
        return replace(
            self,
            archived=self.archived + orders,
            log_start=max(self.log_start, log_start),
            archived_until=max(self.archived_until, until),
        )

    def with_parked(self, changed: ParkedOrders) -> ParkedOrders:
        """The parked orders with the `changed` ranges; an order whose range is empty is gone."""
        ranges = {**self.parked_orders, **changed}
        return {order_id: parked for order_id, parked in ranges.items() if parked.size}


def encode_parked_orders(parked_orders: ParkedOrders) -> list[ParkedLineDocument]:
    """The parked orders for a partition's document: a list, since an order id is no name for a field."""
    return [
        {"order_id": order_id, "first": parked.first, "last": parked.last}
        for order_id, parked in parked_orders.items()
    ]


@dataclass(frozen=True, slots=True)
class Slot:
    """The position and the time of the next event of a partition."""

    partition: int
    seq: int
    time: datetime
