"""Decides a batch: every command in its order, against the documents that the store has loaded. Pure."""

from collections.abc import Sequence
from datetime import datetime

from tracking_order_state.domain.decisions import (
    Decisions,
    Known,
    key_reused,
    record_event,
    record_refusal,
    refused,
)
from tracking_order_state.domain.holding import Holding
from tracking_order_state.domain.lifecycle import (
    Refusal,
    Slot,
    decide,
    exists_elsewhere,
    not_found,
)
from tracking_order_state.domain.overdue import is_reserved
from tracking_order_state.domain.parking import park_behind
from tracking_order_state.domain.partition import NOTHING_PARKED, ParkedOrders
from tracking_order_state.domain.repeats import outcome_after_applied, outcome_after_refusal
from tracking_shared.contracts.access import reaches
from tracking_shared.contracts.commands import AnyCommand, CreateOrder
from tracking_shared.contracts.documents import OrderDocument, ProblemDocument, update_key
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
    events = dict(known.events)
    # Without it, whoever does not hold updates pays nothing for it.
    holding = (
        Holding.begin(decisions, events, known, partition, seq, workflow)
        if workflow.hold_early_seconds or known.held
        else None
    )
    for command in commands:
        order = decisions.orders.get(command.order_id) or known.orders.get(command.order_id)
        problem = _problem_without_trace(command, order)
        if problem is not None:
            decisions.outcomes.append(refused(command, problem))
            continue
        key = update_key(command.order_id, command.update_id)
        event = events.get(key)
        if event is not None:
            decisions.outcomes.append(outcome_after_applied(command, event, workflow))
            continue
        if holding is not None and (outcome := holding.outcome_of(command, order)) is not None:
            decisions.outcomes.append(outcome)
            continue
        refusal = decisions.refusals.get(key) or known.refusals.get(key)
        if refusal is not None:
            outcome = outcome_after_refusal(command, refusal)
            if outcome is not None:
                decisions.outcomes.append(outcome)
                continue
            decisions.replaced.add(key)
        slot = Slot(partition, seq + len(decisions.events) + 1, time)
        if command.order_id in parked_orders:
            park_behind(decisions, command, known, parked_orders, slot)
            continue
        made = decide(order, command, slot, workflow)
        if not isinstance(made, Refusal):
            record_event(decisions, command, made, workflow)
            events[key] = made
            if holding is not None:
                holding.release(command.order_id)
        elif holding is None or not holding.hold(command, order):
            record_refusal(decisions, command, order, made.problem, time)
    return decisions


def _problem_without_trace(command: AnyCommand, order: OrderDocument | None) -> ProblemDocument | None:
    # Nothing is stored for a caller who may not know the order: it must not find a trace of itself
    # there, nor block an update id for the owner of the order.
    if order is None or reaches(command.grant, order["_id"], order["merchant_id"]):
        return key_reused(command) if is_reserved(command.update_id) else None
    if isinstance(command, CreateOrder):
        return exists_elsewhere(command.order_id)
    return not_found(command.order_id)
