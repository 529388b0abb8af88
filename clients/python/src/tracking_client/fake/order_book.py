"""Decides operations and keeps orders, events and outcomes in memory. Pure apart from the clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from uuid import uuid4

from tracking_client.fake.access import Caller
from tracking_client.fake.problems import Refusal
from tracking_client.fake.validation import utc_text
from tracking_client.fake.workflow import INITIAL, TRANSITIONS
from tracking_client.operations import referenced_order_id

Document = dict[str, Any]

_TYPES = {"create": "order.created", "update": "order.status_changed"} | {
    "checkpoint": "order.checkpoint_added",
    "correct": "order.corrected",
}


_HISTORY_MEMBERS = (
    *("version", "status", "previous_status", "update_id", "source", "occurred_at", "received_at"),
    *("recorded_at", "due_at", "eta", "overdue", "metadata", "kind", "message", "reason"),
)


@dataclass(slots=True)
class Decision:
    """The outcome of one update, as it is kept."""

    update_id: str
    order_id: str
    asked: Mapping[str, Any]
    """The members of the operation: the same update id with others is refused."""
    recorded_at: str
    order: Document | None = None
    """The order after it, if it was applied."""
    version: int | None = None
    """Of the order after it, or at which it was refused."""
    refusal: Refusal | None = None
    merchant_id: str | None = None
    subject: str = ""
    is_replayed: bool = False
    """True: it was decided before, and this is a repeat."""
    reads_until_known: int = 0
    """Requests for the outcome that are still answered as not decided."""


class OrderBook:
    """All orders, their log and the outcomes of their updates."""

    def __init__(self) -> None:
        self.orders: dict[str, Document] = {}
        """By order id, with the customer, as REST shows them."""
        self.log: list[Document] = []
        """All events (CloudEvents). The position of an event is its number, from 1."""
        self._outcomes: dict[tuple[str, str], Decision] = {}

    def order_of(self, order_id: str, caller: Caller) -> Document:
        """The order as it exists for the caller.

        Raises:
            Refusal: `order-not-found`.
        """
        order = self.orders.get(order_id)
        if order is None or not caller.reaches(order_id, order["merchant_id"]):
            raise Refusal("order-not-found", f"There is no order {order_id}.")
        return order

    def outcome_of(self, order_id: str, update_id: str, caller: Caller) -> Decision:
        """The outcome of an update.

        Raises:
            Refusal: `update-not-found`.
        """
        decision = self._outcomes.get((order_id, update_id))
        if decision is not None and decision.reads_until_known:
            decision.reads_until_known -= 1
            decision = None
        if decision is None or not _may_know(decision, caller):
            raise Refusal("update-not-found", "It is not known, or not decided yet.")
        return decision

    def decide(self, operation: Mapping[str, Any], caller: Caller) -> Decision:
        """Applies a checked operation, or keeps its refusal. A repeat gets the stored decision.

        Raises:
            Refusal: the caller may not do it; nothing is kept.
        """
        caller.require("orders:correct" if operation["op"] == "correct" else "orders:write")
        update_id = operation.get("update_id") or uuid4().hex
        order_id = order_id_of(operation, update_id, caller)
        asked = {name: value for name, value in operation.items() if name != "update_id"}
        if operation["op"] == "create" and not caller.may_create_for(order_id, operation["merchant_id"]):
            raise Refusal("forbidden", "The token does not have this merchant.")
        known = self._outcomes.get((order_id, update_id))
        if known is not None:
            return _repeated(known, asked)
        decision = Decision(update_id, order_id, asked, utc_text(datetime.now(UTC)), subject=caller.subject)
        order = self.orders.get(order_id)
        try:
            event = self._event(order, operation, decision, caller)
        except Refusal as refusal:
            decision.refusal = refusal
            decision.version = order["version"] if order else None
            decision.merchant_id = order["merchant_id"] if order else None
        else:
            self._apply(event, decision)
        self._outcomes[order_id, update_id] = decision
        return decision

    def _apply(self, event: Document, decision: Decision) -> None:
        self.log.append(event)
        order = _order_after(event["data"])
        self.orders[decision.order_id] = decision.order = order
        decision.version, decision.merchant_id = order["version"], order["merchant_id"]

    def _event(
        self, order: Document | None, operation: Mapping[str, Any], decision: Decision, caller: Caller
    ) -> Document:
        data = _created(operation) if operation["op"] == "create" else None
        if data is None:
            if order is None or not caller.reaches(decision.order_id, order["merchant_id"]):
                raise Refusal("order-not-found", f"There is no order {decision.order_id}.")
            _refuse_change(order, operation)
            data = _changed(order, operation)
        elif order is not None:
            raise _exists(order, caller)
        time = decision.recorded_at
        data |= {"order_id": decision.order_id, "update_id": decision.update_id}
        data |= {"received_at": time, "recorded_at": time, "occurred_at": operation.get("occurred_at")}
        data.setdefault("created_at", time)
        data |= {
            "active": bool(TRANSITIONS[data["status"]]),
            "allowed_next": list(TRANSITIONS[data["status"]]),
            "overdue": False,
            "previous_overdue": False,
            "source": {"type": caller.source_type, "id": caller.subject},
            "metadata": operation.get("metadata", {}),
        }
        data |= {name: operation[name] for name in ("kind", "message", "reason") if name in operation}
        return {
            "specversion": "1.0",
            "id": f"{decision.order_id}:{data['version']}",
            "source": "/orders",
            "type": _TYPES[operation["op"]],
            "subject": decision.order_id,
            "time": time,
            "datacontenttype": "application/json",
            "sequence": str(len(self.log) + 1).zfill(20),
            "partition": 0,
            "data": data,
        }


def order_id_of(operation: Mapping[str, Any], update_id: str, caller: Caller) -> str:
    """The id of the order that an operation names, or that is derived for a create."""
    if "order_id" in operation:
        return str(operation["order_id"])
    if "reference" in operation:
        return referenced_order_id(operation["merchant_id"], operation["reference"])
    digest = blake2b(f"{caller.subject}\n{update_id}".encode(), digest_size=16).hexdigest()
    return f"o-{digest}"


def visible_order(order: Document, caller: Caller) -> Document:
    """The order without what the caller may not see."""
    return order if caller.sees_customer else _without_person(order)


def visible_event(event: Document, caller: Caller) -> Document:
    """The event without what the caller may not see."""
    return event if caller.sees_customer else {**event, "data": _without_person(event["data"])}


def history_item(event: Document, caller: Caller) -> Document:
    """A line of an order's history."""
    data = visible_event(event, caller)["data"]
    return {"type": event["type"], **{name: data[name] for name in _HISTORY_MEMBERS if name in data}}


def _may_know(decision: Decision, caller: Caller) -> bool:
    """True for the sender of the update, and for those who may read its order."""
    if decision.subject == caller.subject:
        return True
    if caller.scopes.isdisjoint(("orders:read", "orders:admin")):
        return False
    if decision.merchant_id is None:
        return "*" in caller.merchants and caller.orders is None
    return caller.reaches(decision.order_id, decision.merchant_id)


def _repeated(known: Decision, asked: Mapping[str, Any]) -> Decision:
    repeat = Decision(known.update_id, known.order_id, asked, known.recorded_at, is_replayed=True)
    if known.asked != asked:
        detail = f"The update id {known.update_id} was used for another request on this order."
        repeat.refusal, repeat.is_replayed = Refusal("idempotency-key-reused", detail), False
        return repeat
    repeat.order, repeat.version, repeat.refusal = known.order, known.version, known.refusal
    return repeat


def _exists(order: Document, caller: Caller) -> Refusal:
    if not caller.reaches(order["order_id"], order["merchant_id"]):
        return Refusal("order-exists", f"The order id {order['order_id']} is taken.")
    return Refusal(
        "order-exists",
        f"The order {order['order_id']} exists already and is {order['status']}.",
        current_status=order["status"],
        version=order["version"],
    )


def _refuse_change(order: Document, operation: Mapping[str, Any]) -> None:
    expected = operation.get("expected_version")
    if expected is not None and expected != order["version"]:
        raise Refusal(
            "version-conflict",
            f"The order is at version {order['version']}, not {expected}.",
            version=order["version"],
            expected_version=expected,
        )
    status = operation.get("status")
    if operation["op"] == "update" and status not in TRANSITIONS[order["status"]]:
        raise _invalid_transition(order, status, f"it cannot become {status}")
    if operation["op"] == "correct" and status == order["status"]:
        raise _invalid_transition(order, status, "there is nothing to correct")


def _invalid_transition(order: Document, status: Any, why: str) -> Refusal:
    return Refusal(
        "invalid-transition",
        f"The order is {order['status']}; {why}.",
        current_status=order["status"],
        requested_status=status,
        allowed_next=order["allowed_next"],
        version=order["version"],
    )


def _created(operation: Mapping[str, Any]) -> Document:
    return {
        "merchant_id": operation["merchant_id"],
        "reference": operation.get("reference"),
        "version": 1,
        "status": INITIAL,
        "previous_status": None,
        "due_at": operation.get("due_at"),
        "eta": None,
        "order_metadata": operation.get("metadata", {}),
        "customer": dict(operation["customer"]),
    }


def _changed(order: Document, operation: Mapping[str, Any]) -> Document:
    is_checkpoint = operation["op"] == "checkpoint"
    metadata = order["metadata"] if is_checkpoint else _merged(order["metadata"], operation.get("metadata"))
    return {
        "merchant_id": order["merchant_id"],
        "reference": order["reference"],
        "version": order["version"] + 1,
        "status": order["status"] if is_checkpoint else operation["status"],
        "previous_status": order["status"],
        "created_at": order["created_at"],
        "due_at": operation.get("due_at", order["due_at"]),
        "eta": operation.get("eta", order["eta"]),
        "order_metadata": metadata,
        "customer": order["customer"],
    }


def _merged(old: Document, new: Document | None) -> Document:
    return {name: value for name, value in old.items() if name not in (new or {})} | (new or {})


def _order_after(data: Document) -> Document:
    names = ("order_id", "merchant_id", "reference", "customer", "status", "version", "active", "created_at")
    order = {name: data[name] for name in names}
    order |= {"updated_at": data["recorded_at"]}
    order |= {name: data[name] for name in ("due_at", "eta", "overdue", "source")}
    return order | {"metadata": data["order_metadata"], "allowed_next": data["allowed_next"]}


def _without_person(document: Document) -> Document:
    rest = {name: value for name, value in document.items() if name != "customer"}
    return rest | {"source": {"type": document["source"]["type"]}}
