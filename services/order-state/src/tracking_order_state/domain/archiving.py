"""Archives orders: which of those that a part of the archive contains may leave the database. Pure.

The events of an order were written to the part, and flushed to the disk, before it is asked for. So an order
may leave exactly if it still stands at the version that was written, and nothing waits for it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from tracking_order_state.domain.decisions import ArchiveStep, Decisions
from tracking_shared.contracts.documents import (
    ArchivableOrderDocument,
    ArchivedOrderDocument,
    ArchivingDocument,
    OrderDocument,
    ProblemDocument,
)
from tracking_shared.contracts.timestamps import UNIX_EPOCH


@dataclass(frozen=True, slots=True)
class ArchiveRequest:
    """Orders of one partition that are in a part of the archive."""

    id: str
    part: str
    partition: int
    orders: Sequence[ArchivableOrderDocument]
    is_last: bool = True
    """False: more orders of the same request follow, in another transaction."""

    @classmethod
    def decode(cls, document: ArchivingDocument) -> "ArchiveRequest":
        """The request that is stored."""
        return cls(document["_id"], document["part"], document["partition"], document["orders"])

    @property
    def order_ids(self) -> list[str]:
        """The orders that are asked for."""
        return [one["order_id"] for one in self.orders]

    def split(self, number: int) -> tuple["ArchiveRequest", "ArchiveRequest | None"]:
        """The first `number` orders, and the others, if there are more."""
        if number >= len(self.orders):
            return self, None
        first = replace(self, orders=self.orders[:number], is_last=False)
        return first, replace(self, orders=self.orders[number:])


def archive(
    request: ArchiveRequest,
    orders: Mapping[str, OrderDocument],
    waiting: Collection[str],
    *,
    time: datetime,
) -> Decisions:
    """Archives those of the requested orders that stand as they were written. `waiting`: orders for which
    something is parked or held.
    """
    leaving = [
        one
        for one in request.orders
        if one["order_id"] not in waiting and _is_as_written(orders.get(one["order_id"]), one)
    ]
    left: dict[str, ArchivedOrderDocument] = {
        one["order_id"]: {
            "_id": one["order_id"],
            "merchant_id": orders[one["order_id"]]["merchant_id"],
            "partition": request.partition,
            "version": one["version"],
            "part": request.part,
            "archived_at": time,
        }
        for one in leaving
    }
    if not leaving and not request.is_last:
        return Decisions(time=time)
    log_start = max((one["seq"] for one in leaving), default=0)
    until = max((one["updated_at"] for one in leaving), default=UNIX_EPOCH)
    return Decisions(
        time=time, archiving=ArchiveStep(request.id, left, log_start, until, is_last=request.is_last)
    )


def _is_as_written(order: OrderDocument | None, written: ArchivableOrderDocument) -> bool:
    return order is not None and not order["active"] and order["version"] == written["version"]


def order_archived(archived: ArchivedOrderDocument) -> ProblemDocument:
    """The problem for a command whose order is archived."""
    return {
        "slug": "order-archived",
        "detail": f"The order {archived['_id']} is archived. It takes no updates unless it is restored.",
        "members": {"version": archived["version"]},
    }
