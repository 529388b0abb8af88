"""Events that no caller asked for: the system itself records something of an order. Pure."""

from datetime import datetime
from typing import Any, cast

from tracking_order_state.domain.lifecycle import carried_fields
from tracking_order_state.domain.partition import PartitionPosition
from tracking_shared.contracts.documents import (
    EventDocument,
    EventType,
    OrderDocument,
    position_key,
    update_key,
)


def system_event(  # noqa: PLR0917 - the order, its place in the log, and the event
    order: OrderDocument,
    position: PartitionPosition,
    seq: int,
    time: datetime,
    kind: EventType,
    update_id: str,
    source_id: str,
    fingerprint: str,
) -> EventDocument:
    """An event of this `kind`, after which the order is as it was: what is to change, and the fields of
    `due_fields`, are for the caller to set.
    """
    recorded_at = max(time, order["updated_at"])
    event: dict[str, Any] = {
        "_id": position_key(position.partition, seq),
        "order_id": order["_id"],
        **carried_fields(order),
        "version": order["version"] + 1,
        "partition": position.partition,
        "seq": seq,
        "status": order["status"],
        "previous_status": order["status"],
        "active": order["active"],
        "update_id": update_id,
        "update_key": update_key(order["_id"], update_id),
        "fingerprint": fingerprint,
        "source": {"type": "system", "id": source_id},
        "occurred_at": None,
        "received_at": recorded_at,
        "recorded_at": recorded_at,
        "metadata": {},
        "order_metadata": order["metadata"],
        "type": kind,
    }
    return cast(EventDocument, event)
