"""What is known before a batch, and what it comes to: outcomes to tell, documents to write. Pure."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from order_state.lines import Line
from shared.access import sees_customer
from shared.commands import CreateOrder, UpdateOrder
from shared.documents import (
    EventDocument,
    OrderDocument,
    ParkedDocument,
    ProblemDocument,
    UpdateDocument,
    project,
    update_key,
)
from shared.outcomes import Outcome
from shared.timestamps import UNIX_EPOCH
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
    parked: dict[str, ParkedDocument] = field(default_factory=dict)
    """Those of the commands that are parked, by update key."""


NOTHING_KNOWN = Known({}, {}, {})


@dataclass(frozen=True, slots=True)
class Decided:
    """What a batch comes to."""

    outcomes: list[Outcome | None] = field(default_factory=list)
    """One for each command, in their order; None for one that is parked."""
    events: list[EventDocument] = field(default_factory=list)
    """New ones, in seq order."""
    orders: dict[str, OrderDocument] = field(default_factory=dict)
    """Changed ones, as they stand after the batch."""
    updates: dict[str, UpdateDocument] = field(default_factory=dict)
    """Outcomes to store, by key."""
    replaced: set[str] = field(default_factory=set)
    """Keys of those that may take the place of a stored one."""
    parked: dict[str, ParkedDocument] = field(default_factory=dict)
    """Commands to park."""
    released: list[str] = field(default_factory=list)
    """Keys of parked commands that are through."""
    lines: dict[str, Line] = field(default_factory=dict)
    """Of parked orders: the changed ones, as they stand after the batch."""
    time: datetime = UNIX_EPOCH
    """Nothing in it was recorded earlier, and once it is written nothing can be. 1970: it records nothing."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.updates or self.parked or self.released)


def record_event(decided: Decided, command: AnyCommand, event: EventDocument, workflow: Workflow) -> None:
    """Adds a command that made `event`."""
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
    decided.outcomes.append(applied(command, event, workflow, replayed=False))


def record_refusal(
    decided: Decided,
    command: AnyCommand,
    order: OrderDocument | None,
    problem: ProblemDocument,
    time: datetime,
) -> None:
    """Adds a command that is refused for good: a repeat gets the same `problem`."""
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
    decided.outcomes.append(refused(command, problem))


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


def applied(command: AnyCommand, event: EventDocument, workflow: Workflow, *, replayed: bool) -> Outcome:
    """The outcome of a command that made `event`."""
    return {
        "update_id": command.update_id,
        "order_id": command.order_id,
        "outcome": "applied",
        "replayed": replayed,
        "version": event["version"],
        "order": order_view(project(event), workflow, with_customer=sees_customer(command.grant)),
        "problem": None,
    }


def refused(command: AnyCommand, problem: ProblemDocument | None, *, replayed: bool = False) -> Outcome:
    """The outcome of a command that was refused."""
    return {
        "update_id": command.update_id,
        "order_id": command.order_id,
        "outcome": "rejected",
        "replayed": replayed,
        "version": None,
        "order": None,
        "problem": problem,
    }


def key_reused(command: AnyCommand) -> ProblemDocument:
    """The update id is that of another request."""
    return {
        "slug": "idempotency-key-reused",
        "detail": f"The update id {command.update_id} was used for another request on this order.",
        "members": {},
    }
