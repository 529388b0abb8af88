"""Commands and documents for tests: valid by default, each field to be overridden."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from tracking_shared.contracts.access import Grant
from tracking_shared.contracts.commands import (
    AddCheckpoint,
    CorrectOrder,
    CreateOrder,
    Customer,
    Source,
    UpdateOrder,
    fingerprint_of,
)

EVERYONE = Grant(merchants=frozenset({"*"}))
TIME = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def create_command(order_id: str = "o-1", merchant_id: str = "m-1", **fields: Any) -> CreateOrder:
    """A create by a system that reaches every merchant."""
    values: dict[str, Any] = {
        "update_id": uuid4().hex,
        "source": Source(type="system", id="shop"),
        "grant": EVERYONE,
        "received_at": TIME,
        "customer": Customer(name="Ada", contact_ref="crm-1"),
        "metadata": {},
    } | fields
    fingerprint = fingerprint_of(
        "create", occurred_at=None, metadata=values["metadata"], body={"merchant_id": merchant_id}
    )
    return CreateOrder(order_id=order_id, merchant_id=merchant_id, **({"fingerprint": fingerprint} | values))


def update_command(order_id: str = "o-1", status: str = "picked_up", **fields: Any) -> UpdateOrder:
    """An update by a driver that reaches every merchant."""
    values: dict[str, Any] = {
        "update_id": uuid4().hex,
        "source": Source(type="driver", id="dora"),
        "grant": EVERYONE,
        "received_at": TIME,
        "metadata": {},
    } | fields
    fingerprint = fingerprint_of(
        "update", occurred_at=None, metadata=values["metadata"], body={"status": status}
    )
    return UpdateOrder(order_id=order_id, status=status, **({"fingerprint": fingerprint} | values))


def checkpoint_command(order_id: str = "o-1", kind: str = "note", **fields: Any) -> AddCheckpoint:
    """A checkpoint by a driver that reaches every merchant."""
    values: dict[str, Any] = {
        "update_id": uuid4().hex,
        "source": Source(type="driver", id="dora"),
        "grant": EVERYONE,
        "received_at": TIME,
        "metadata": {},
    } | fields
    body = {"kind": kind, "message": values.get("message")}
    fingerprint = fingerprint_of("checkpoint", occurred_at=None, metadata=values["metadata"], body=body)
    return AddCheckpoint(order_id=order_id, kind=kind, **({"fingerprint": fingerprint} | values))


def correct_command(order_id: str = "o-1", status: str = "in_transit", **fields: Any) -> CorrectOrder:
    """A correction by an operator that reaches every merchant."""
    values: dict[str, Any] = {
        "update_id": uuid4().hex,
        "source": Source(type="operator", id="olga"),
        "grant": EVERYONE,
        "received_at": TIME,
        "metadata": {},
        "reason": "wrong parcel scanned",
    } | fields
    body = {"status": status, "reason": values["reason"]}
    fingerprint = fingerprint_of("correct", occurred_at=None, metadata=values["metadata"], body=body)
    return CorrectOrder(order_id=order_id, status=status, **({"fingerprint": fingerprint} | values))
