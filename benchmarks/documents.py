"""Event documents as order-state would write them, for floors and for generated databases. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from tracking_shared.contracts.access import SourceType
from tracking_shared.contracts.documents import EventDocument, position_key, update_key
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

Customer = tuple[str, str]
"""Name and reference of a contact."""


def event_document(  # noqa: PLR0917 - each pair is a noun
    order: tuple[str, str],
    customer: Customer,
    statuses: Sequence[str],
    position: tuple[int, int],
    times: tuple[datetime, datetime],
    source: tuple[SourceType, str],
    metadata: dict[str, Any],
    order_metadata: dict[str, Any],
    *,
    sent_before: timedelta = timedelta(0),
    received_before: timedelta = timedelta(0),
) -> EventDocument:
    """The event of the newest of the `statuses` of an order (id and merchant), at its position (partition and
    number); `times` are those of the order's creation and of the event.
    """
    (order_id, merchant_id), (partition, seq), (created_at, recorded_at) = order, position, times
    version, status = len(statuses), statuses[-1]
    return {
        "_id": position_key(partition, seq),
        "order_id": order_id,
        "merchant_id": merchant_id,
        "customer": {"name": customer[0], "contact_ref": customer[1]},
        "version": version,
        "partition": partition,
        "seq": seq,
        "status": status,
        "previous_status": statuses[-2] if version > 1 else None,
        "active": DEFAULT_WORKFLOW.is_active(status),
        "update_id": f"{order_id}-{version}",
        "update_key": update_key(order_id, f"{order_id}-{version}"),
        "fingerprint": "0123456789abcdef0123456789abcdef",
        "source": {"type": source[0], "id": source[1]},
        "occurred_at": recorded_at - sent_before,
        "received_at": recorded_at - received_before,
        "recorded_at": recorded_at,
        "created_at": created_at,
        "metadata": metadata,
        "order_metadata": order_metadata,
    }
