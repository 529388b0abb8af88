"""The input and the output of decisions: known documents; outcomes and documents to write.
No I/O, no clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from tracking_order_state.domain.partition import ParkedRange, PartitionPosition, Slot
from tracking_shared.contracts.access import sees_customer
from tracking_shared.contracts.commands import AddCheckpoint, AnyCommand, Outcome, requested_status
from tracking_shared.contracts.documents import (
    ArchivedOrderDocument,
    EventDocument,
    HeldDocument,
    OrderDocument,
    ParkedDocument,
    ProblemDocument,
    SearchDocument,
    UpdateDocument,
    project,
    update_key,
)
from tracking_shared.contracts.messages import order_view
from tracking_shared.contracts.timestamps import UNIX_EPOCH
from tracking_shared.contracts.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored of the orders and updates that a batch names, read or remembered.

    An update id in neither `events` nor `refusals` is new, or assumed to be: then the unique index decides
    (`order_cache`).
    """

    orders: dict[str, OrderDocument]
    events: dict[str, EventDocument]
    """The events that known updates have made, by update key."""
    refusals: dict[str, UpdateDocument]
    """The outcomes of those that were refused, by update key. No key is in both."""
    parked: dict[str, ParkedDocument] = field(default_factory=dict)
    """The commands of the batch that are parked, by update key."""
    held: Mapping[str, Sequence[HeldDocument]] = field(default_factory=dict)
    """The held updates of the orders, by order id."""
    waiting: Mapping[str, int] = field(default_factory=dict)
    """How many updates of each sender are held for orders that did not exist, by sender key."""
    archived: Mapping[str, ArchivedOrderDocument] = field(default_factory=dict)
    """What stays of those orders that are archived, by order id. None of them is in `orders`."""


NOTHING_KNOWN = Known({}, {}, {})


@dataclass(frozen=True, slots=True)
class ErasureStep:
    """The changes of one transaction of an erasure, beside orders and new events."""

    erasure_id: str
    erased_at: datetime
    expires_at: datetime
    event_ids: Sequence[int] = ()
    """Earlier events, whose customer is erased in place."""
    search: dict[str, SearchDocument] = field(default_factory=dict)
    """The entries of the search, by order id."""
    parked: list[ParkedDocument] = field(default_factory=list)
    """Parked commands without their customer."""
    is_last: bool = False
    """True: the partition holds nothing of the customer any more."""


@dataclass(frozen=True, slots=True)
class ArchiveStep:
    """Orders that leave the database, because a part of the archive contains them."""

    request_id: str
    orders: Mapping[str, ArchivedOrderDocument]
    """What stays of each, by order id. The others of the request have changed, and stay."""
    log_start: int
    """The highest seq of their events."""
    until: datetime
    """The time of the newest one."""
    is_last: bool
    """True: the request is carried out with it."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """The decisions on the commands of one partition. Only the functions of `domain` fill its lists and
    mappings, one command after the other.
    """

    outcomes: list[Outcome | None] = field(default_factory=list)
    """One for each command, in their order; None for one that is parked."""
    events: list[EventDocument] = field(default_factory=list)
    """New events, in seq order."""
    orders: dict[str, OrderDocument] = field(default_factory=dict)
    """Changed orders, as they are after the batch."""
    refusals: dict[str, UpdateDocument] = field(default_factory=dict)
    """Outcomes to store, by key."""
    replaced: set[str] = field(default_factory=set)
    """Keys of stored refusals that another refusal, an event or a held update may take the place of."""
    parked: dict[str, ParkedDocument] = field(default_factory=dict)
    """Commands to park."""
    released: list[str] = field(default_factory=list)
    """Keys of parked commands that are decided now."""
    parked_ranges: dict[str, ParkedRange] = field(default_factory=dict)
    """The changed ranges of parked orders, as they are after the batch."""
    held: dict[str, HeldDocument] = field(default_factory=dict)
    """Updates to hold, by `_id`."""
    unheld: dict[str, str] = field(default_factory=dict)
    """Held updates that are decided now, by `_id`: applied or rejected."""
    erasure: ErasureStep | None = None
    archiving: ArchiveStep | None = None
    time: datetime = UNIX_EPOCH
    """Nothing in it was recorded earlier, and once it is written nothing can be. 1970: it records nothing."""

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to write."""
        changes = (
            self.events,
            self.refusals,
            self.parked,
            self.released,
            self.held,
            self.unheld,
            self.erasure,
            self.archiving,
        )
        return not any(changes)

    def is_written_at(self, position: PartitionPosition) -> bool:
        """True if these decisions need a transaction at `position`, if only to move its horizon on."""
        return not self.is_empty or position.is_horizon_due(self.time)

    def position_after(self, position: PartitionPosition) -> PartitionPosition:
        """The position of the partition once these decisions are committed at `position`."""
        if not self.is_written_at(position):
            return position
        after = replace(
            position,
            seq=position.seq + len(self.events),
            commits=position.commits + 1,
            parked_orders=(
                position.with_parked(self.parked_ranges) if self.parked_ranges else position.parked_orders
            ),
            horizon=max(position.horizon, self.time),
            held=position.held + len(self.held) - len(self.unheld),
        )
        return (
            after
            if self.archiving is None
            else after.with_archived(
                len(self.archiving.orders), self.archiving.log_start, self.archiving.until
            )
        )


@dataclass(slots=True)
class BatchState:
    """The decisions on a batch of one partition so far, and what they rest on."""

    decisions: Decisions
    known: Known
    partition: int
    seq: int
    """Of the newest event before the batch."""
    workflow: Workflow
    events: dict[str, EventDocument] = field(init=False)
    """The events that known updates have made, those of this batch included, by update key."""

    def __post_init__(self) -> None:
        self.events = dict(self.known.events)

    def order(self, order_id: str) -> OrderDocument | None:
        """The order, as the decisions so far leave it."""
        return self.decisions.orders.get(order_id) or self.known.orders.get(order_id)

    def refusal(self, key: str) -> UpdateDocument | None:
        """The refusal of an update, by its key."""
        return self.decisions.refusals.get(key) or self.known.refusals.get(key)

    def slot(self) -> Slot:
        """The position and time of the next event."""
        return Slot(self.partition, self.seq + len(self.decisions.events) + 1, self.decisions.time)


def record_event(decisions: Decisions, command: AnyCommand, event: EventDocument, workflow: Workflow) -> None:
    """Adds the outcome and the documents of a command that made `event`."""
    add_event(decisions, event)
    decisions.outcomes.append(applied(command, event, workflow, replayed=False))


def add_event(decisions: Decisions, event: EventDocument) -> None:
    """Adds the documents of a command that made `event`."""
    decisions.events.append(event)
    decisions.orders[event["order_id"]] = project(event)
    decisions.refusals.pop(update_key(event["order_id"], event["update_id"]), None)


def record_refusal(
    decisions: Decisions,
    command: AnyCommand,
    order: OrderDocument | ArchivedOrderDocument | None,
    problem: ProblemDocument,
    time: datetime,
) -> None:
    """Adds a refusal that is stored: a repeat of the command gets the same `problem`."""
    key = update_key(command.order_id, command.update_id)
    refusal: UpdateDocument = {
        "_id": key,
        "order_id": command.order_id,
        "update_id": command.update_id,
        "fingerprint": command.fingerprint,
        "outcome": "rejected",
        "version": order["version"] if order else None,
        "position": None,
        "problem": problem,
        "requested_status": requested_status(command),
        "merchant_id": order["merchant_id"] if order else None,
        "source": {"type": command.source.type, "id": command.source.id},
        "recorded_at": time,
    }
    if isinstance(command, AddCheckpoint):
        refusal["kind"] = command.kind
    decisions.refusals[key] = refusal
    decisions.outcomes.append(refused(command, problem))


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


def held_outcome_of(command: AnyCommand, *, replayed: bool) -> Outcome:
    """The outcome of a command that is held."""
    return {
        "update_id": command.update_id,
        "order_id": command.order_id,
        "outcome": "held",
        "replayed": replayed,
        "version": None,
        "order": None,
        "problem": None,
    }


def key_reused(command: AnyCommand) -> ProblemDocument:
    """The problem for an update id that was used for another request."""
    return {
        "slug": "idempotency-key-reused",
        "detail": f"The update id {command.update_id} was used for another request on this order.",
        "members": {},
    }
