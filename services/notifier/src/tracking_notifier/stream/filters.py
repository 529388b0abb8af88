"""Decides which clients get which events and orders. Pure. A filter only narrows what the grant allows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tracking_notifier.stream.events import Event
from tracking_shared.contracts.access import Grant, ReadableOrders, reaches, readable_orders, sees_customer
from tracking_shared.contracts.documents import OrderDocument, overdue_condition
from tracking_shared.storage.embedded_database import ANY_TIME
from tracking_shared.storage.keyset import KeyOrder

Names = frozenset[str]


@dataclass(frozen=True, slots=True)
class Filter:
    """The filter of a subscription. A member that is None accepts every value, else one of those named."""

    merchant_ids: Names | None = None
    order_ids: Names | None = None
    statuses: Names | None = None
    active: bool | None = None
    overdue: bool | None = None

    def matches_order(self, order_id: str, merchant_id: str) -> bool:
        """True if it accepts this order of this merchant in some status."""
        return (self.order_ids is None or order_id in self.order_ids) and (
            self.merchant_ids is None or merchant_id in self.merchant_ids
        )

    def matches_state(self, status: str, *, active: bool, overdue: bool) -> bool:
        """True if it accepts orders in this state."""
        return (
            (self.active is None or active is self.active)
            and (self.statuses is None or status in self.statuses)
            and (self.overdue is None or overdue is self.overdue)
        )


@dataclass(frozen=True, slots=True)
class Audience:
    """The clients with the same grant and the same filter: they get the same messages."""

    grant: Grant
    filter: Filter

    @property
    def with_customer(self) -> bool:
        """True if they may see names and contacts."""
        return sees_customer(self.grant)

    @property
    def readable(self) -> ReadableOrders:
        """The merchants and orders that it is limited to. Statuses are not considered."""
        return readable_orders(self.grant, self.filter.merchant_ids, self.filter.order_ids)

    def matches(self, event: Event) -> bool:
        """True if it gets this event: the order matches after the event, or matched before it. The event with
        which an order leaves the filter is the last one of that order.
        """
        if not reaches(self.grant, event.order_id, event.merchant_id):
            return False
        if not self.filter.matches_order(event.order_id, event.merchant_id):
            return False
        if self.filter.matches_state(event.status, active=event.active, overdue=event.overdue):
            return True
        return event.previous_status is not None and self.filter.matches_state(
            event.previous_status, active=event.previous_active, overdue=event.previous_overdue
        )

    def includes(self, order: OrderDocument) -> bool:
        """True if its snapshot contains this order."""
        return (
            reaches(self.grant, order["_id"], order["merchant_id"])
            and self.filter.matches_order(order["_id"], order["merchant_id"])
            and self.filter.matches_state(
                order["status"], active=order["active"], overdue=order.get("overdue", False)
            )
        )


def matching_events(events: Sequence[Event], audience: Audience) -> list[Event]:
    """The events that an audience gets."""
    # Most clients get few events of a long past, and comparing one name costs a tenth of the whole decision.
    readable = audience.readable
    if readable.orders is not None:
        order_ids = readable.orders
        events = [event for event in events if event.order_id in order_ids]
    elif readable.merchants is not None:
        merchant_ids = readable.merchants
        events = [event for event in events if event.merchant_id in merchant_ids]
    return [event for event in events if audience.matches(event)]


def snapshot_query(audience: Audience) -> dict[str, Any]:
    """The database query for the orders of a snapshot (collection `orders`)."""
    query = audience.readable.conditions("_id")
    if audience.filter.statuses is not None:
        query["status"] = {"$in": sorted(audience.filter.statuses)}
    if audience.filter.active is not None:
        query["active"] = audience.filter.active
    if audience.filter.overdue is not None:
        query["overdue"] = overdue_condition(overdue=audience.filter.overdue)
    if query.keys() == {"active"}:
        # Always true. The embedded database uses the index `active_recency` for it; without it every order of
        # all time is read.
        query["updated_at"] = ANY_TIME
    return query


def snapshot_order(query: dict[str, Any]) -> KeyOrder:
    """The sort order of `snapshot_query`: that of the index that serves it, newest first, so that an order
    which changes during the read is never read again.
    """
    by_change = not query.keys().isdisjoint({"status", "active", "overdue"})
    return KeyOrder(("updated_at" if by_change else "created_at", "_id"), direction=-1)
