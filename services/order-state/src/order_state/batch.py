"""A micro-batch: every command decided in its order against what the database holds. Pure.

What is read before and written after is in the values that go in and come out; see `store`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from order_state.lifecycle import Refusal, Slot, decide, exists_elsewhere, not_found
from shared.access import reaches, sees_customer
from shared.commands import CreateOrder, UpdateOrder
from shared.documents import (
    EventDocument,
    OrderDocument,
    ProblemDocument,
    UpdateDocument,
    project,
    update_key,
)
from shared.outcomes import Outcome
from shared.views import order_view
from shared.workflow import Workflow

AnyCommand = CreateOrder | UpdateOrder


@dataclass(frozen=True, slots=True)
class Known:
    """What the database holds of the orders and updates that a batch names."""

    orders: dict[str, OrderDocument]
    updates: dict[str, UpdateDocument]
    events: dict[int, EventDocument]
    """The events that the known applied updates made, by position."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What a batch comes to."""

    outcomes: list[Outcome] = field(default_factory=list)
    """One for each command, in their order."""
    events: list[EventDocument] = field(default_factory=list)
    """New ones, in seq order."""
    orders: dict[str, OrderDocument] = field(default_factory=dict)
    """Changed ones, as they stand after the batch."""
    updates: dict[str, UpdateDocument] = field(default_factory=dict)
    """Outcomes to store."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.updates


def decide_batch(
    commands: Sequence[AnyCommand],
    known: Known,
    *,
    partition: int,
    seq: int,
    time: datetime,
    workflow: Workflow,
) -> Decided:
    """Decides `commands` one after the other. `seq` is that of the partition's newest event."""
    decided = Decided()
    events = dict(known.events)
    for command in commands:
        order = decided.orders.get(command.order_id) or known.orders.get(command.order_id)
        if order is not None and not reaches(command.grant, order["_id"], order["merchant_id"]):
            decided.outcomes.append(_refused(command, _hidden(command)))
            continue
        key = update_key(command.order_id, command.update_id)
        stored = decided.updates.get(key) or known.updates.get(key)
        if stored is not None:
            decided.outcomes.append(_repeated(command, stored, events, workflow))
            continue
        slot = Slot(partition, seq + len(decided.events) + 1, time)
        result = decide(order, command, slot, workflow)
        if isinstance(result, Refusal):
            _record_refusal(decided, command, order, result.problem, time)
        else:
            _record_event(decided, command, result, workflow)
            events[result["_id"]] = result
    return decided


def _hidden(command: AnyCommand) -> ProblemDocument:
    # Nothing is stored for a caller who may not know the order: it must not find a trace of itself
    # there, nor take an update id away from those whose order it is.
    if isinstance(command, CreateOrder):
        return exists_elsewhere(command.order_id)
    return not_found(command.order_id)


def _repeated(
    command: AnyCommand, stored: UpdateDocument, events: dict[int, EventDocument], workflow: Workflow
) -> Outcome:
    if stored["fingerprint"] != command.fingerprint:
        return _refused(command, _key_reused(command))
    if stored["position"] is not None:
        return _applied(command, events[stored["position"]], workflow, replayed=True)
    return _refused(command, stored["problem"], replayed=True)


def _key_reused(command: AnyCommand) -> ProblemDocument:
    return {
        "slug": "idempotency-key-reused",
        "detail": f"The update id {command.update_id} was used for another request on this order.",
        "members": {},
    }


def _record_event(decided: Decided, command: AnyCommand, event: EventDocument, workflow: Workflow) -> None:
    decided.events.append(event)
    decided.orders[event["order_id"]] = project(event)
    _store(
        decided,
        command,
        outcome="applied",
        version=event["version"],
        position=event["_id"],
        problem=None,
        merchant_id=event["merchant_id"],
        recorded_at=event["recorded_at"],
    )
    decided.outcomes.append(_applied(command, event, workflow, replayed=False))


def _record_refusal(
    decided: Decided,
    command: AnyCommand,
    order: OrderDocument | None,
    problem: ProblemDocument,
    time: datetime,
) -> None:
    _store(
        decided,
        command,
        outcome="rejected",
        version=order["version"] if order else None,
        position=None,
        problem=problem,
        merchant_id=order["merchant_id"] if order else None,
        recorded_at=time,
    )
    decided.outcomes.append(_refused(command, problem))


def _store(decided: Decided, command: AnyCommand, **fields: object) -> None:
    key = update_key(command.order_id, command.update_id)
    document: dict[str, object] = {
        "_id": key,
        "order_id": command.order_id,
        "update_id": command.update_id,
        "fingerprint": command.fingerprint,
        "requested_status": "" if isinstance(command, CreateOrder) else command.status,
        "source": {"type": command.source.type, "id": command.source.id},
        **fields,
    }
    decided.updates[key] = cast(UpdateDocument, document)  # the two callers give all the rest


def _applied(command: AnyCommand, event: EventDocument, workflow: Workflow, *, replayed: bool) -> Outcome:
    return {
        "update_id": command.update_id,
        "order_id": command.order_id,
        "outcome": "applied",
        "replayed": replayed,
        "version": event["version"],
        "order": order_view(project(event), workflow, with_customer=sees_customer(command.grant)),
        "problem": None,
    }


def _refused(command: AnyCommand, problem: ProblemDocument | None, *, replayed: bool = False) -> Outcome:
    return {
        "update_id": command.update_id,
        "order_id": command.order_id,
        "outcome": "rejected",
        "replayed": replayed,
        "version": None,
        "order": None,
        "problem": problem,
    }
