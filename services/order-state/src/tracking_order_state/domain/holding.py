"""Holding: an update that came too early waits for what comes before it, if the workflow says so.
No I/O, no clock.

Held is an update or a checkpoint whose order does not exist yet; and an update whose status cannot follow
now, but can be reached along the table. After each event of the order, those that may follow now are applied,
the one that happened first before the others, until none may. So no held update of an order could be applied
as the order stands. When its time is over, an update is decided like one that comes then.

Who may send an update for an order that does not exist is only known once it does. What a stranger has sent
stays held until its time is over, as if there were no order.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tracking_order_state.domain.decisions import (
    BatchState,
    Decisions,
    Known,
    add_event,
    applied,
    held_outcome_of,
    key_reused,
    record_refusal,
    refused,
)
from tracking_order_state.domain.lifecycle import Rejection, decide, not_found
from tracking_order_state.domain.partition import PartitionPosition
from tracking_shared.contracts.access import reaches
from tracking_shared.contracts.commands import (
    AddCheckpoint,
    AnyCommand,
    UpdateOrder,
    encode_command,
    requested_status,
)
from tracking_shared.contracts.documents import (
    EventDocument,
    HeldDocument,
    OrderDocument,
    due_key,
)
from tracking_shared.contracts.held import command_of, held_id, held_update_key, is_of_order, sender_key
from tracking_shared.contracts.workflow import Workflow

MAX_HELD_PER_ORDER = 32
"""Of one order. Of an order that exists, those of strangers do not count."""

MAX_WAITING_PER_SENDER = 256
"""For orders that did not exist, of one sender in one partition: a caller may invent order ids. As many
refusals of such a sender are kept, so that it can read what became of each."""


@dataclass(slots=True)
class Holding:
    """The held updates of the orders of a batch, as the commands decided so far leave them."""

    state: BatchState
    _held: dict[str, dict[str, HeldDocument]]
    _waiting: Counter[str]
    _commands: dict[str, AnyCommand] = field(default_factory=dict)

    @classmethod
    def begin(cls, state: BatchState) -> "Holding":
        """Begins with what is known to be held."""
        held = {order_id: {one["_id"]: one for one in some} for order_id, some in state.known.held.items()}
        return cls(state, held, Counter(state.known.waiting))

    def find(self, command: AnyCommand, order: OrderDocument | None) -> HeldDocument | None:
        """The held update with the update id of `command`, if there is one."""
        held = self._held.get(command.order_id)
        if not held:
            return None
        if order is None:
            return held.get(held_id(command.order_id, command.update_id, command.source.id))
        same = (one for one in held.values() if one["update_id"] == command.update_id)
        return next((one for one in same if is_of_order(one, order)), None)

    def hold(self, command: AnyCommand, order: OrderDocument | None) -> bool:
        """Holds a refused command, if it came too early and there is room. Returns whether it does."""
        if not self._is_early(command, order) or not self._has_room(command, order):
            return False
        document = self._document(command, order)
        held = self._held.setdefault(command.order_id, {})
        if document["_id"] in held:  # sent with a token that did not reach the order
            self._remove(document, "rejected")
        held[document["_id"]] = document
        if "sender_key" in document:
            self._waiting[document["sender_key"]] += 1
        self.state.decisions.held[document["_id"]] = document
        self.state.decisions.refusals.pop(held_update_key(document), None)
        self.state.decisions.outcomes.append(held_outcome_of(command, replayed=False))
        return True

    def _is_early(self, command: AnyCommand, order: OrderDocument | None) -> bool:
        workflow = self.state.workflow
        if not workflow.hold_early_seconds:
            return False
        # A correction is made by somebody who has seen the order, so without one it is a mistake.
        if not isinstance(command, UpdateOrder | AddCheckpoint) or command.expected_version is not None:
            return False
        if order is None:
            return True
        return isinstance(command, UpdateOrder) and workflow.can_reach(order["status"], command.status)

    def _has_room(self, command: AnyCommand, order: OrderDocument | None) -> bool:
        held = self._held.get(command.order_id, {})
        if order is not None:
            return sum(is_of_order(one, order) for one in held.values()) < MAX_HELD_PER_ORDER
        waiting = self._waiting[sender_key(self.state.partition, command.source.id)]
        return len(held) < MAX_HELD_PER_ORDER and waiting < MAX_WAITING_PER_SENDER

    def _document(self, command: AnyCommand, order: OrderDocument | None) -> HeldDocument:
        until = self.state.decisions.time + timedelta(seconds=self.state.workflow.hold_early_seconds)
        document: HeldDocument = {
            "_id": held_id(command.order_id, command.update_id, command.source.id),
            "order_id": command.order_id,
            "update_id": command.update_id,
            "fingerprint": command.fingerprint,
            "partition": self.state.partition,
            "command": encode_command(command).decode(),
            "source": {"type": command.source.type, "id": command.source.id},
            "requested_status": requested_status(command),
            "merchant_id": order["merchant_id"] if order else None,
            "occurred_at": command.occurred_at,
            "held_at": self.state.decisions.time,
            "until": until,
            "held_key": due_key(self.state.partition, until),
        }
        if isinstance(command, AddCheckpoint):
            document["kind"] = command.kind
        if order is None:
            document["sender_key"] = sender_key(self.state.partition, command.source.id)
        return document

    def release(self, order_id: str) -> None:
        """Applies the held updates of an order that may follow its newest event, and those that may follow
        them.
        """
        while (ready := self._first_ready(order_id)) is not None:
            held, event = ready
            self._remove(held, "applied")
            if held_update_key(held) not in self.state.events:  # by now another sender's
                self._record(held, event)

    def _first_ready(self, order_id: str) -> tuple[HeldDocument, EventDocument] | None:
        order = self.state.decisions.orders[order_id]
        for held, command in self._by_time(order_id):
            if reaches(command.grant, order_id, order["merchant_id"]):
                made = decide(order, command, self.state.slot(), self.state.workflow)
                if not isinstance(made, Rejection):
                    return held, made
        return None

    def _by_time(self, order_id: str) -> Iterator[tuple[HeldDocument, UpdateOrder | AddCheckpoint]]:
        found = []
        for held in self._held.get(order_id, {}).values():
            command = self._commands.get(held["_id"]) or command_of(held)
            self._commands[held["_id"]] = command
            if isinstance(command, UpdateOrder | AddCheckpoint):
                found.append((held, command))
        yield from sorted(found, key=lambda one: self._place(one[1]))

    def _place(self, command: UpdateOrder | AddCheckpoint) -> tuple[datetime, bool, datetime, str]:
        # At the same moment a final status comes last: the others could not follow it.
        ends = isinstance(command, UpdateOrder) and not self.state.workflow.is_active(command.status)
        return command.occurred_at or command.received_at, ends, command.received_at, command.update_id

    def end(self, held: HeldDocument) -> None:
        """Decides an update whose time is over."""
        state, decisions = self.state, self.state.decisions
        command, key = command_of(held), held_update_key(held)
        order = state.order(held["order_id"])
        if key in state.events or not _may_be_replaced(state.refusal(key)):
            # The update id became another sender's.
            self._remove(held, "rejected")
            decisions.outcomes.append(refused(command, key_reused(command)))
            return
        decisions.replaced.add(key)
        is_stranger = order is not None and not is_of_order(held, order)
        made = (
            Rejection(not_found(held["order_id"]))
            if is_stranger
            else decide(order, command, state.slot(), state.workflow)
        )
        if isinstance(made, Rejection):
            self._remove(held, "rejected")
            record_refusal(decisions, command, None if is_stranger else order, made.problem, decisions.time)
            return
        # It was held under another table of statuses.
        self._remove(held, "applied")
        self._record(held, made)
        decisions.outcomes.append(applied(command, made, state.workflow, replayed=False))
        self.release(held["order_id"])

    def _record(self, held: HeldDocument, event: EventDocument) -> None:
        key = held_update_key(held)
        self.state.decisions.replaced.add(key)
        add_event(self.state.decisions, event)
        self.state.events[key] = event

    def _remove(self, held: HeldDocument, outcome: str) -> None:
        name = held["_id"]
        del self._held[held["order_id"]][name]
        if "sender_key" in held:
            self._waiting[held["sender_key"]] -= 1
        if self.state.decisions.held.pop(name, None) is None:
            self.state.decisions.unheld[name] = outcome


def _may_be_replaced(refusal: object) -> bool:
    return refusal is None or refusal["problem"]["slug"] == "order-not-found"  # type: ignore[index]


def end_held(
    ids: Collection[str],
    known: Known,
    position: PartitionPosition,
    *,
    now: datetime,
    time: datetime,
    workflow: Workflow,
) -> Decisions:
    """Decides those of these held updates whose time was over at `now` or before.

    `now` is by the clock that judges their time, and `time` the one that is recorded.
    """
    decisions = Decisions(time=time)
    holding = Holding.begin(BatchState(decisions, known, position.partition, position.seq, workflow))
    held = {one["_id"]: one for some in known.held.values() for one in some}
    for name in ids:
        one = held.get(name)
        if one is not None and one["until"] <= now and name not in decisions.unheld:
            holding.end(one)
    return decisions


def hold_from(decisions: Decisions, now: datetime, workflow: Workflow) -> None:
    """Changes the updates that these decisions hold, in place: their time begins at `now`, by the clock that
    judges it.
    """
    until = now + timedelta(seconds=workflow.hold_early_seconds)
    for held in decisions.held.values():
        held["until"], held["held_key"] = until, due_key(held["partition"], until)
