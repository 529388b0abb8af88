"""Checks overdue flags against due times. Pure.

It recomputes the rule from the events: which due times were announced, and what follows for each event.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from tracking_shared.contracts.documents import EventDocument, OrderDocument, event_type

OVERDUE_TOLERANCE = timedelta(minutes=5)
"""Between a due time and its event, either way: 60 s of the sweep, differences of clocks, and a backlog of
some 200,000 orders after an outage."""


def due_faults(order_id: str, history: Sequence[EventDocument]) -> Iterator[str]:
    """The faults of the due times of one order, whose events are sorted by version."""
    announced: list[datetime] = []
    was_overdue = False
    for event in history:
        name = f"order {order_id}: version {event['version']}"
        due_at = event.get("due_at")
        if event_type(event) == "order.overdue":
            if due_at is None or due_at <= max(announced, default=due_at - timedelta.resolution):
                yield f"{name} says again that the order is overdue"
                continue
            announced.append(due_at)
            if event["recorded_at"] < due_at - OVERDUE_TOLERANCE:
                yield f"{name} says that the order is overdue, before it was due"
        latest = max(announced, default=None)
        overdue = event["active"] and due_at is not None and latest is not None and due_at <= latest
        if event.get("announced_due_at") != latest or event.get("overdue", False) is not overdue:
            yield f"{name} is wrongly overdue or not"
        if event.get("previous_overdue", False) is not was_overdue:
            yield f"{name} tells wrongly whether the order was overdue before"
        was_overdue = event.get("overdue", False)


def unmarked_fault(order: OrderDocument, horizon: datetime) -> str | None:
    """The fault of an order that awaits its `order.overdue` for too long. `horizon` is that of its partition:
    it stands still while nobody works on the partition.
    """
    if "due_key" not in order:
        return None
    if max(order["due_at"], order["updated_at"]) >= horizon - OVERDUE_TOLERANCE:
        return None
    return f"order {order['_id']} was due at {order['due_at']}, and is not marked as overdue"
