"""Decides a batch: every command in its order, against what is stored of the orders and updates.
No I/O, no clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tracking_order_state.domain.archiving import order_archived
from tracking_order_state.domain.decisions import (
    BatchState,
    Decisions,
    Known,
    key_reused,
    record_event,
    record_refusal,
    refused,
)
from tracking_order_state.domain.holding import Holding
from tracking_order_state.domain.lifecycle import (
    Rejection,
    decide,
    exists_elsewhere,
    not_found,
)
from tracking_order_state.domain.overdue import is_reserved
from tracking_order_state.domain.parking import park_behind
from tracking_order_state.domain.partition import NOTHING_PARKED, ParkedOrders
from tracking_order_state.domain.repeats import (
    is_decided_anew,
    repeat_of_applied,
    repeat_of_held,
    repeat_of_refused,
)
from tracking_shared.contracts.access import reaches
from tracking_shared.contracts.commands import AnyCommand, CreateOrder, Outcome
from tracking_shared.contracts.documents import (
    ArchivedOrderDocument,
    OrderDocument,
    ProblemDocument,
    update_key,
)
from tracking_shared.contracts.workflow import Workflow


def decide_batch(
    commands: Sequence[AnyCommand],
    known: Known,
    *,
    partition: int,
    seq: int,
    time: datetime,
    workflow: Workflow,
    parked_orders: ParkedOrders = NOTHING_PARKED,
) -> Decisions:
    """Decides `commands` one after the other. `seq` is that of the partition's newest event.

    Commands of parked orders are not decided: they are parked behind the earlier ones of their order.
    """
    decisions = Decisions(time=time)
    state = BatchState(decisions, known, partition, seq, workflow)
    # Without it, whoever does not hold updates pays nothing for it.
    batch = _Batch(state, Holding.begin(state) if workflow.hold_early_seconds or known.held else None)
    for command in commands:
        order = state.order(command.order_id)
        outcome = batch.answer_without_deciding(command, order)
        if outcome is not None:
            decisions.outcomes.append(outcome)
            continue
        batch.mark_refusal_replaceable(command)
        if command.order_id in parked_orders:
            park_behind(decisions, command, known, parked_orders, state.slot())
        else:
            batch.decide(command, order)
    return decisions


@dataclass(slots=True)
class _Batch:
    """Decides the commands of a batch one after the other."""

    state: BatchState
    holding: Holding | None

    def answer_without_deciding(self, command: AnyCommand, order: OrderDocument | None) -> Outcome | None:
        """The outcome of a command that does not reach its order, or that repeats an update. None: it must
        be decided.
        """
        problem = _problem_without_trace(command, order or self.state.known.archived.get(command.order_id))
        if problem is not None:
            return refused(command, problem)
        return self._outcome_of_repeat(command, order)

    def _outcome_of_repeat(self, command: AnyCommand, order: OrderDocument | None) -> Outcome | None:
        key = update_key(command.order_id, command.update_id)
        event = self.state.events.get(key)
        if event is not None:
            return repeat_of_applied(command, event, self.state.workflow)
        if self.holding is not None and (held := self.holding.find(command, order)) is not None:
            return repeat_of_held(command, held)
        refusal = self.state.refusal(key)
        if refusal is None or is_decided_anew(command, refusal):
            return None
        return repeat_of_refused(command, refusal)

    def mark_refusal_replaceable(self, command: AnyCommand) -> None:
        """Notes that the stored refusal of a command that is not answered from it may be replaced."""
        key = update_key(command.order_id, command.update_id)
        if self.state.refusal(key) is not None:
            self.state.decisions.replaced.add(key)

    def decide(self, command: AnyCommand, order: OrderDocument | None) -> None:
        """Decides a command, and what was held until now."""
        state, decisions = self.state, self.state.decisions
        archived = self.state.known.archived.get(command.order_id)
        if archived is not None:
            record_refusal(decisions, command, archived, order_archived(archived), decisions.time)
            return
        made = decide(order, command, state.slot(), state.workflow)
        if not isinstance(made, Rejection):
            record_event(decisions, command, made, state.workflow)
            state.events[update_key(command.order_id, command.update_id)] = made
            if self.holding is not None:
                self.holding.release(command.order_id)
        elif self.holding is None or not self.holding.hold(command, order):
            record_refusal(decisions, command, order, made.problem, decisions.time)


def _problem_without_trace(
    command: AnyCommand, order: OrderDocument | ArchivedOrderDocument | None
) -> ProblemDocument | None:
    # Nothing is stored for a caller who may not know the order: it must not find a trace of itself
    # there, nor block an update id for the owner of the order.
    if order is None or reaches(command.grant, order["_id"], order["merchant_id"]):
        return key_reused(command) if is_reserved(command.update_id) else None
    if isinstance(command, CreateOrder):
        return exists_elsewhere(command.order_id)
    return not_found(command.order_id)
