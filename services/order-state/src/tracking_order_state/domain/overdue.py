"""Records that the due times of orders have passed: one `order.overdue` for each due time. Pure.

That there is none twice does not rest on a clock. An order awaits the event for its due time until it has it
(`due_fields`), which the owner of the partition reads and writes behind its fence. Beside that, the update id
is made of the due time, so that the unique index of the event log refuses a second one.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from tracking_order_state.domain.decisions import Decisions
from tracking_order_state.domain.due_times import due_fields
from tracking_order_state.domain.partition import PartitionPosition
from tracking_order_state.domain.system_events import system_event
from tracking_shared.contracts.commands import fingerprint_of
from tracking_shared.contracts.documents import EventDocument, OrderDocument, project
from tracking_shared.contracts.timestamps import UNIX_EPOCH

CLOCK_ID = "tracking:clock"
"""`source.id` of the events."""

_RESERVED = "tracking:overdue:"

ERASURE_UPDATE_IDS = "tracking:erasure:"
"""The beginning of the update ids of `order.customer_erased`."""


def overdue_update_id(due_at: datetime) -> str:
    """The update id of `order.overdue` for this due time, the same in each attempt of whichever process."""
    return f"{_RESERVED}{(due_at - UNIX_EPOCH) // timedelta(milliseconds=1)}"


def is_reserved(update_id: str) -> bool:
    """True for update ids that only `order.overdue` and `order.customer_erased` have. A caller who could use
    one beforehand would keep the order from ever being overdue.
    """
    return update_id.startswith((_RESERVED, ERASURE_UPDATE_IDS))


def mark_overdue(
    orders: Iterable[OrderDocument], position: PartitionPosition, *, now: datetime, time: datetime
) -> Decisions:
    """The events of those `orders` that await one and were due at `now` or before.

    `now` is by the clock that judges due times, and `time` the one that is recorded.
    """
    decisions = Decisions(time=time)
    for order in orders:
        if "due_key" not in order or order["due_at"] > now:
            continue  # it is final, is due later, or has its event, since it was found
        event = _overdue(order, position, position.seq + len(decisions.events) + 1, time)
        decisions.events.append(event)
        decisions.orders[order["_id"]] = project(event)
    return decisions


def _overdue(order: OrderDocument, position: PartitionPosition, seq: int, time: datetime) -> EventDocument:
    due_at = order["due_at"]
    fingerprint = fingerprint_of("overdue", occurred_at=None, metadata={}, body={"due_at": due_at})
    update_id = overdue_update_id(due_at)
    event = system_event(order, position, seq, time, "order.overdue", update_id, CLOCK_ID, fingerprint)
    times = due_fields(order, active=order["active"], announced_due_at=due_at)
    return event | times  # type: ignore[return-value]
