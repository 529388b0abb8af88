"""Operations on orders, each with its update id. Pure, apart from the ids that are made.

The update id is made once, with the operation. Sending the same operation again, also from another process,
has no second effect.
"""

import hashlib
from base64 import b32encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

Time = datetime | str
"""A time with its offset: an aware `datetime`, or a text as RFC 3339 has it."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a batch."""

    document: Mapping[str, Any]

    @property
    def update_id(self) -> str:
        """The id under which it takes effect once."""
        return str(self.document["update_id"])

    @property
    def order_key(self) -> str:
        """Operations with an equal key are of one order, and must keep their order."""
        order_id = self.document.get("order_id")
        if order_id is not None:
            return str(order_id)
        reference = self.document.get("reference")
        if reference is not None:
            return referenced_order_id(str(self.document.get("merchant_id")), str(reference))
        return f"\0{self.update_id}"  # the server makes the order id


def create(
    order_id: str | None = None,
    *,
    merchant_id: str,
    name: str,
    contact_ref: str,
    reference: str | None = None,
    due_at: Time | None = None,
    occurred_at: Time | None = None,
    metadata: Mapping[str, Any] | None = None,
    update_id: str | None = None,
) -> Operation:
    """Creates an order. `name` and `contact_ref` are those of the customer.

    Without `order_id`, the server derives it: from `merchant_id` and `reference`, or else from the caller and
    the update id.

    Raises:
        ValueError: a time has no offset.
    """
    return _operation(
        "create",
        update_id,
        order_id=order_id,
        merchant_id=merchant_id,
        reference=reference,
        customer={"name": name, "contact_ref": contact_ref},
        due_at=_text(due_at),
        occurred_at=_text(occurred_at),
        metadata=metadata,
    )


def update(
    order_id: str | None = None,
    status: str = "",
    *,
    merchant_id: str | None = None,
    reference: str | None = None,
    expected_version: int | None = None,
    occurred_at: Time | None = None,
    metadata: Mapping[str, Any] | None = None,
    update_id: str | None = None,
) -> Operation:
    """Changes the status of an order. The order is named by `order_id`, or by `merchant_id` and `reference`.

    Raises:
        TypeError: there is no `status`. It has a default only because `order_id` before it may be left out.
        ValueError: a time has no offset.
    """
    _require(status)
    return _operation(
        "update",
        update_id,
        order_id=order_id,
        merchant_id=merchant_id,
        reference=reference,
        status=status,
        expected_version=expected_version,
        occurred_at=_text(occurred_at),
        metadata=metadata,
    )


def checkpoint(
    order_id: str | None = None,
    kind: str = "note",
    *,
    merchant_id: str | None = None,
    reference: str | None = None,
    message: str | None = None,
    eta: Time | None = None,
    due_at: Time | None = None,
    expected_version: int | None = None,
    occurred_at: Time | None = None,
    metadata: Mapping[str, Any] | None = None,
    update_id: str | None = None,
) -> Operation:
    """Records what happened to an order beside its steps. The status stays.

    Raises:
        ValueError: a time has no offset.
    """
    return _operation(
        "checkpoint",
        update_id,
        order_id=order_id,
        merchant_id=merchant_id,
        reference=reference,
        kind=kind,
        message=message,
        eta=_text(eta),
        due_at=_text(due_at),
        expected_version=expected_version,
        occurred_at=_text(occurred_at),
        metadata=metadata,
    )


def correct(
    order_id: str | None = None,
    status: str = "",
    *,
    reason: str,
    merchant_id: str | None = None,
    reference: str | None = None,
    expected_version: int | None = None,
    occurred_at: Time | None = None,
    metadata: Mapping[str, Any] | None = None,
    update_id: str | None = None,
) -> Operation:
    """Puts a wrong status right, from any status to any other. Needs the scope `orders:correct`.

    Raises:
        TypeError: there is no `status`, as for `update`.
        ValueError: a time has no offset.
    """
    _require(status)
    return _operation(
        "correct",
        update_id,
        order_id=order_id,
        merchant_id=merchant_id,
        reference=reference,
        status=status,
        reason=reason,
        expected_version=expected_version,
        occurred_at=_text(occurred_at),
        metadata=metadata,
    )


def referenced_order_id(merchant_id: str, reference: str) -> str:
    """The id of the order that a merchant created with this reference and without an order id of its own."""
    digest = hashlib.blake2b(f"{merchant_id}\0{reference}".encode(), digest_size=16).digest()
    return f"r-{b32encode(digest).decode().rstrip('=').lower()}"


def _operation(op: str, update_id: str | None, **members: Any) -> Operation:
    given = {name: value for name, value in members.items() if value is not None}
    return Operation({"op": op, "update_id": update_id or uuid4().hex, **given})


def _require(status: str) -> None:
    if not status:
        raise TypeError("status is required")


def _text(time: Time | None) -> str | None:
    if not isinstance(time, datetime):
        return time
    if time.tzinfo is None:
        raise ValueError(f"{time.isoformat()} has no offset: use datetime.now(UTC), for example")
    return time.isoformat(timespec="milliseconds")
