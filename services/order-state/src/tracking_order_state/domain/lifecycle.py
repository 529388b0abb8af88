"""Decides one command on one order: the event that it makes, or the reason why it is refused. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import orjson

from tracking_order_state.domain.due_times import due_fields
from tracking_order_state.domain.partition import Slot
from tracking_shared.contracts.commands import (
    AddCheckpoint,
    AnyCommand,
    CorrectOrder,
    CreateOrder,
    UpdateOrder,
)
from tracking_shared.contracts.documents import (
    MAX_METADATA_BYTES,
    MAX_METADATA_KEYS,
    EventDocument,
    Metadata,
    OrderDocument,
    ProblemDocument,
    position_key,
    update_key,
)
from tracking_shared.contracts.problems import no_such_order
from tracking_shared.contracts.workflow import Workflow


def merge_metadata(old: Metadata, new: Metadata) -> Metadata:
    """Merges the metadata of an update into that of its order: `new` values win, and the keys that were set
    longest ago go where the bounds require it.

    `new` alone always fits: ingest has checked it against the same bounds. Nothing is lost, since the
    history keeps the metadata of each update.
    """
    if not new:
        return old
    merged = {key: value for key, value in old.items() if key not in new} | new
    while len(merged) > MAX_METADATA_KEYS or (
        len(merged) > len(new) and len(orjson.dumps(merged)) > MAX_METADATA_BYTES
    ):
        del merged[next(iter(merged))]
    return merged


@dataclass(frozen=True, slots=True)
class Rejection:
    """The problem for which a command is rejected."""

    problem: ProblemDocument


def decide(
    order: OrderDocument | None, command: AnyCommand, slot: Slot, workflow: Workflow
) -> EventDocument | Rejection:
    """Returns the event that `command` makes, or why it is rejected. `order`: None if there is none."""
    if isinstance(command, CreateOrder):
        return Rejection(_exists(order)) if order else _created(command, slot, workflow)
    if order is None:
        return Rejection(not_found(command.order_id))
    problem = _objection(order, command, workflow)
    return Rejection(problem) if problem else _changed(order, command, slot, workflow)


def not_found(order_id: str) -> ProblemDocument:
    """The problem for an order that does not exist, or that the caller may not know of: the same text."""
    return {"slug": "order-not-found", "detail": no_such_order(order_id), "members": {}}


def exists_elsewhere(order_id: str) -> ProblemDocument:
    """The problem for an order id that is taken by an order which the caller may not know more about."""
    return {"slug": "order-exists", "detail": f"The order id {order_id} is taken.", "members": {}}


def _exists(order: OrderDocument) -> ProblemDocument:
    return {
        "slug": "order-exists",
        "detail": f"The order {order['_id']} exists already and is {order['status']}.",
        "members": {"current_status": order["status"], "version": order["version"]},
    }


Change = UpdateOrder | AddCheckpoint | CorrectOrder
"""A command for an order that exists."""


def _objection(order: OrderDocument, command: Change, workflow: Workflow) -> ProblemDocument | None:
    if command.expected_version is not None and command.expected_version != order["version"]:
        return {
            "slug": "version-conflict",
            "detail": f"The order is at version {order['version']}, not {command.expected_version}.",
            "members": {"version": order["version"], "expected_version": command.expected_version},
        }
    if isinstance(command, UpdateOrder) and command.status not in workflow.allowed_next(order["status"]):
        return _invalid(order, command, f"it cannot become {command.status}", workflow)
    if isinstance(command, CorrectOrder) and command.status not in workflow.statuses:
        return _invalid(order, command, f"it cannot be corrected to {command.status}", workflow)
    if isinstance(command, CorrectOrder) and command.status == order["status"]:
        return _invalid(order, command, "there is nothing to correct", workflow)
    return None


def _invalid(
    order: OrderDocument, command: UpdateOrder | CorrectOrder, why: str, workflow: Workflow
) -> ProblemDocument:
    return {
        "slug": "invalid-transition",
        "detail": f"The order is {order['status']}; {why}.",
        "members": {
            "current_status": order["status"],
            "requested_status": command.status,
            "allowed_next": list(workflow.allowed_next(order["status"])),
            "version": order["version"],
        },
    }


def _created(command: CreateOrder, slot: Slot, workflow: Workflow) -> EventDocument:
    active = workflow.is_active(workflow.initial)
    return _event(
        command,
        slot,
        merchant_id=command.merchant_id,
        **_referenced(command.reference),
        **_customer(command, slot),
        version=1,
        status=workflow.initial,
        previous_status=None,
        active=active,
        recorded_at=slot.time,
        created_at=slot.time,
        order_metadata=command.metadata,
        **due_fields(None, active=active, due_at=command.due_at),
    )


def _changed(order: OrderDocument, command: Change, slot: Slot, workflow: Workflow) -> EventDocument:
    # Replicas' clocks differ a little; within one order recorded time never runs backwards.
    recorded_at = max(slot.time, order["updated_at"])
    if isinstance(command, AddCheckpoint):
        # Its metadata belongs to the checkpoint alone: it says nothing that holds for the order.
        status, metadata = order["status"], order["metadata"]
        times = {"due_at": command.due_at, "eta": command.eta}
    else:
        status, metadata = command.status, merge_metadata(order["metadata"], command.metadata)
        times = {}
    active = workflow.is_active(status)
    return _event(
        command,
        slot,
        **carried_fields(order),
        version=order["version"] + 1,
        status=status,
        previous_status=order["status"],
        active=active,
        recorded_at=recorded_at,
        order_metadata=metadata,
        **due_fields(order, active=active, **times),
        **_type_and_details(command, recorded_at),
        **closed_fields(order, status, active=active),
    )


def _customer(command: CreateOrder, slot: Slot) -> dict[str, object]:
    if command.customer is None:
        return {"customer": None, "erased_at": command.erased_at or slot.time}
    return {"customer": {"name": command.customer.name, "contact_ref": command.customer.contact_ref}}


def carried_fields(order: OrderDocument) -> dict[str, Any]:
    """The members that an event takes from its order as they are."""
    fields: dict[str, Any] = {
        "merchant_id": order["merchant_id"],
        "customer": order["customer"],
        "created_at": order["created_at"],
    }
    if "reference" in order:
        fields["reference"] = order["reference"]
    if "erased_at" in order:
        fields["erased_at"] = order["erased_at"]
    return fields


def _referenced(reference: str | None) -> dict[str, str]:
    # Not there instead of null: the index of references holds only orders that have one.
    return {} if reference is None else {"reference": reference}


def _type_and_details(command: Change, recorded_at: datetime) -> dict[str, object]:
    if isinstance(command, CorrectOrder):
        return {"type": "order.corrected", "reason": command.reason, "corrected_at": recorded_at}
    if isinstance(command, AddCheckpoint):
        message = {} if command.message is None else {"message": command.message}
        return {"type": "order.checkpoint_added", "kind": command.kind, **message}
    return {}


def closed_fields(order: OrderDocument, status: str, *, active: bool) -> dict[str, Any]:
    """The member of an event that says when its order came into a final status, if that was before."""
    # Only while it stays in a final status: where it comes into one now, that is the time of the event.
    if status != order["status"] or active:
        return {}
    return {"closed_at": order["closing"]["at"] if "closing" in order else order["updated_at"]}


def _event(command: AnyCommand, slot: Slot, **fields: object) -> EventDocument:
    event: dict[str, object] = {
        "_id": position_key(slot.partition, slot.seq),
        "order_id": command.order_id,
        "partition": slot.partition,
        "seq": slot.seq,
        "update_id": command.update_id,
        "update_key": update_key(command.order_id, command.update_id),
        "fingerprint": command.fingerprint,
        "source": {"type": command.source.type, "id": command.source.id},
        "occurred_at": command.occurred_at,
        "received_at": command.received_at,
        "metadata": command.metadata,
        **fields,
    }
    if command.traceparent:
        event["traceparent"] = command.traceparent
    return cast(EventDocument, event)  # the two callers give all the rest
