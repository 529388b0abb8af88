"""Who gets which event. Pure: a filter can only narrow what the policy in `shared.access` allows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from notifier.events import Event
from shared.access import Grant, reaches, sees_customer
from shared.documents import OrderDocument
from shared.key_order import KeyOrder

Names = frozenset[str]


@dataclass(frozen=True, slots=True)
class Filter:
    """What a client asked for. None = not asked; a value must then be one of those named."""

    merchant_ids: Names | None = None
    order_ids: Names | None = None
    statuses: Names | None = None
    active: bool | None = None

    def covers(self, order_id: str, merchant_id: str) -> bool:
        """Whether an order of this merchant is meant, in whatever status it is."""
        return (self.order_ids is None or order_id in self.order_ids) and (
            self.merchant_ids is None or merchant_id in self.merchant_ids
        )

    def matches_state(self, status: str, *, active: bool) -> bool:
        """Whether an order is meant while it is in this status."""
        return (self.active is None or active is self.active) and (
            self.statuses is None or status in self.statuses
        )


@dataclass(frozen=True, slots=True)
class Audience:
    """Clients with the same entitlement and the same filter: they get the same messages."""

    grant: Grant
    filter: Filter

    @property
    def with_customer(self) -> bool:
        """Whether they are shown names and contacts."""
        return sees_customer(self.grant)

    def wants(self, event: Event) -> bool:
        """Whether they get this event: the order matches after it, or did before it (the event that
        takes an order out of the filter is the last one that they get of it).
        """
        if not reaches(self.grant, event.order_id, event.merchant_id):
            return False
        if not self.filter.covers(event.order_id, event.merchant_id):
            return False
        if self.filter.matches_state(event.status, active=event.active):
            return True
        return event.previous_status is not None and self.filter.matches_state(
            event.previous_status, active=event.previous_active
        )

    def shows(self, order: OrderDocument) -> bool:
        """Whether a snapshot for them holds this order."""
        return (
            reaches(self.grant, order["_id"], order["merchant_id"])
            and self.filter.covers(order["_id"], order["merchant_id"])
            and self.filter.matches_state(order["status"], active=order["active"])
        )


@dataclass(frozen=True, slots=True)
class Reach:
    """The orders and merchants beyond which an audience gets nothing. None = no such limit.

    It may be wider than the audience: it finds candidates, `Audience` decides.
    """

    order_ids: Names | None
    merchant_ids: Names | None


def reach_of(audience: Audience) -> Reach:
    """The reach of an audience: what its grant and its filter have in common."""
    grant = audience.grant
    no_merchant_limit = grant.every_merchant or (grant.orders is not None and not grant.merchants)
    return Reach(
        order_ids=_common(grant.orders, audience.filter.order_ids),
        merchant_ids=_common(None if no_merchant_limit else grant.merchants, audience.filter.merchant_ids),
    )


def _common(granted: Names | None, asked: Names | None) -> Names | None:
    if granted is None or asked is None:
        return asked if granted is None else granted
    return granted & asked


def wanted_among(events: Sequence[Event], audience: Audience) -> list[Event]:
    """Those of the events that an audience gets."""
    # Of a long past most clients get little, and the look at one name costs a tenth of the whole decision.
    reach = reach_of(audience)
    if reach.order_ids is not None:
        order_ids = reach.order_ids
        events = [event for event in events if event.order_id in order_ids]
    elif reach.merchant_ids is not None:
        merchant_ids = reach.merchant_ids
        events = [event for event in events if event.merchant_id in merchant_ids]
    return [event for event in events if audience.wants(event)]


_LONG_AGO = datetime(1900, 1, 1, tzinfo=UTC)


def order_query(audience: Audience) -> dict[str, Any]:
    """The database query for the orders of a snapshot (collection `orders`)."""
    reach = reach_of(audience)
    query: dict[str, Any] = {}
    for field, names in (
        ("_id", reach.order_ids),
        ("merchant_id", reach.merchant_ids),
        ("status", audience.filter.statuses),
    ):
        if names is not None:
            query[field] = {"$in": sorted(names)}
    if audience.filter.active is not None:
        query["active"] = audience.filter.active
    if query.keys() == {"active"}:
        # Always true, and what lets the partial index on active orders serve the query: without it
        # every order of all time is read.
        query["updated_at"] = {"$gte": _LONG_AGO}
    return query


def snapshot_order(query: dict[str, Any]) -> KeyOrder:
    """The order in which the orders of `order_query` are read: that of the index that serves it, the newest
    first, so that orders which change while they are read never lie ahead again.
    """
    by_change = "status" in query or "active" in query
    return KeyOrder(("updated_at" if by_change else "created_at", "_id"), direction=-1)
