"""The memory of a partition: what the cache of orders keeps of each, and how large it is.
No I/O, no clock.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum, auto
from sys import getsizeof
from typing import Any

from tracking_order_state.domain.decisions import Decisions
from tracking_shared.contracts.documents import OrderDocument

MAX_IDS = 64
"""Applied update ids that are kept of one order, the newest, and refused ones. Most orders have fewer than
ten changes. With the bounds of metadata, one order takes 120 KB at most."""

ENTRY_BYTES = 2_000
"""An order without metadata and ids, on CPython 3.11 to 3.13; a test compares it with the memory taken."""

ID_BYTES = 170
"""An update id in a set, of 36 characters as most are."""

MAX_UNKNOWN_ORDERS = 1_000
"""Unknown orders of a partition that are listed, at most: a caller may invent their ids."""


NOT_LISTED = None
"""Refused ids of an order that has more than are kept: each id must be read."""


class Unlisted(Enum):
    """Why ids are not listed."""

    NOT_ASKED = auto()
    TOO_MANY = auto()


@dataclass(slots=True)
class RememberedOrder:
    """One order, and what is known of its update ids."""

    order: OrderDocument | None
    """None: there is none, or it was not looked for, since a create names it first."""
    refused: set[str] | None
    """All refused update ids, and perhaps some whose refusal is gone; or `NOT_LISTED`."""
    applied: dict[str, None] = field(default_factory=dict)
    """The newest applied update ids, oldest first."""
    size: int = 0

    def knows_every_applied_id(self) -> bool:
        """True if `applied` holds every applied update id of the order: any other one was never applied."""
        return self.order is not None and len(self.applied) == self.order["version"]

    def add_applied(self, update_id: str) -> None:
        """Notes an applied update."""
        self.applied[update_id] = None
        if len(self.applied) > MAX_IDS:
            del self.applied[next(iter(self.applied))]

    def add_refused(self, update_id: str) -> None:
        """Notes a refused update."""
        if self.refused is not None:
            self.refused.add(update_id)
            if len(self.refused) > MAX_IDS:
                self.refused = NOT_LISTED

    def measure(self) -> int:
        """The estimated bytes."""
        ids = len(self.applied) + len(self.refused or ())
        return ENTRY_BYTES + ID_BYTES * ids + (_deep_size(self.order["metadata"]) if self.order else 0)


@dataclass(slots=True)
class RememberedPartition:
    """The orders of one partition, the least recently used first."""

    commits: int | None
    """Of the position that they are known at; None while a commit is under way."""
    unknown_orders: set[str] | Unlisted = Unlisted.NOT_ASKED
    """Order ids under which something was refused while there was no such order."""
    entries: OrderedDict[str, RememberedOrder] = field(default_factory=OrderedDict)
    size: int = 0

    def put(self, order_id: str, entry: RememberedOrder) -> None:
        """Adds an order as the newest one, in place of what was known of it."""
        self.remove(order_id)
        self.entries[order_id] = entry
        self._resize(entry)

    def add(self, decisions: Decisions) -> None:
        """Adds what was committed. Orders that are parked, or are none, are not remembered."""
        for order_id, order in decisions.orders.items():
            if entry := self.entries.get(order_id):
                entry.order = order
        for event in decisions.events:
            if entry := self.entries.get(event["order_id"]):
                entry.add_applied(event["update_id"])
        for refusal in decisions.refusals.values():
            if entry := self.entries.get(refusal["order_id"]):
                entry.add_refused(refusal["update_id"])
        self._add_unknown_orders(decisions)
        for order_id in _orders_in(decisions):
            self._keep_or_forget(order_id, is_kept=order_id not in decisions.parked_ranges)
        self._remove_archived(decisions)

    def _remove_archived(self, decisions: Decisions) -> None:
        if decisions.archiving is not None:
            for order_id in decisions.archiving.orders:
                self.remove(order_id)

    def _add_unknown_orders(self, decisions: Decisions) -> None:
        if isinstance(self.unknown_orders, set):
            refusals = decisions.refusals.values()
            self.unknown_orders |= {
                refusal["order_id"] for refusal in refusals if refusal["merchant_id"] is None
            }
            if len(self.unknown_orders) > MAX_UNKNOWN_ORDERS:
                self.unknown_orders = Unlisted.TOO_MANY

    def _keep_or_forget(self, order_id: str, *, is_kept: bool) -> None:
        entry = self.entries.get(order_id)
        if entry is not None and is_kept and entry.order is not None:
            self._resize(entry)
        else:
            self.remove(order_id)

    def _resize(self, entry: RememberedOrder) -> None:
        self.size -= entry.size
        entry.size = entry.measure()
        self.size += entry.size

    def remove(self, order_id: str) -> None:
        """Forgets an order."""
        entry = self.entries.pop(order_id, None)
        self.size -= entry.size if entry else 0


def _orders_in(decisions: Decisions) -> set[str]:
    refused = {refusal["order_id"] for refusal in decisions.refusals.values()}
    held = {held["order_id"] for held in decisions.held.values()}
    return refused | held | decisions.orders.keys() | decisions.parked_ranges.keys()


def _deep_size(value: Any) -> int:
    if isinstance(value, dict):
        return getsizeof(value) + sum(getsizeof(key) + _deep_size(one) for key, one in value.items())
    if isinstance(value, list):
        return getsizeof(value) + sum(_deep_size(one) for one in value)
    return getsizeof(value)
