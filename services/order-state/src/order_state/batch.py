"""A micro-batch: every command decided in its order against what the database holds. Pure.

What is read before and written after is in the values that go in and come out; see `store`.
"""

from collections.abc import Sequence
from datetime import datetime

from order_state.decided import (
    AnyCommand,
    Decided,
    Known,
    applied,
    key_reused,
    record_event,
    record_refusal,
    refused,
)
from order_state.lifecycle import Refusal, Slot, decide, exists_elsewhere, not_found
from order_state.lines import NO_LINES, Lines
from order_state.parking import wait_behind
from shared.access import reaches
from shared.commands import CreateOrder
from shared.documents import EventDocument, ProblemDocument, UpdateDocument, update_key
from shared.identifiers import is_content_update_id
from shared.outcomes import Outcome
from shared.workflow import Workflow

DEPENDS_ON_THE_ORDER = frozenset(
    {"invalid-transition", "order-not-found", "order-exists", "version-conflict"}
)
"""Refusals that would have been an effect in another state of the order. Under an update id that is derived
from content they are decided again: whoever loads a file again has no other id for what it says."""


def decide_batch(
    commands: Sequence[AnyCommand],
    known: Known,
    *,
    partition: int,
    seq: int,
    time: datetime,
    workflow: Workflow,
    lines: Lines = NO_LINES,
) -> Decided:
    """Decides `commands` one after the other. `seq` is that of the partition's newest event.

    Commands of the orders in `lines` are not decided: they wait behind what is parked of their order.
    """
    decided = Decided(time=time)
    events = dict(known.events)
    for command in commands:
        order = decided.orders.get(command.order_id) or known.orders.get(command.order_id)
        if order is not None and not reaches(command.grant, order["_id"], order["merchant_id"]):
            decided.outcomes.append(refused(command, _hidden(command)))
            continue
        key = update_key(command.order_id, command.update_id)
        stored = decided.updates.get(key) or known.updates.get(key)
        if stored is not None:
            if not _gives_way(stored, command):
                decided.outcomes.append(_repeated(command, stored, events, workflow))
                continue
            decided.replaced.add(key)
        slot = Slot(partition, seq + len(decided.events) + 1, time)
        if command.order_id in lines:
            wait_behind(decided, command, known, lines, slot)
            continue
        result = decide(order, command, slot, workflow)
        if isinstance(result, Refusal):
            record_refusal(decided, command, order, result.problem, time)
        else:
            record_event(decided, command, result, workflow)
            events[result["_id"]] = result
    return decided


def _hidden(command: AnyCommand) -> ProblemDocument:
    # Nothing is stored for a caller who may not know the order: it must not find a trace of itself
    # there, nor take an update id away from those whose order it is.
    if isinstance(command, CreateOrder):
        return exists_elsewhere(command.order_id)
    return not_found(command.order_id)


def _gives_way(stored: UpdateDocument, command: AnyCommand) -> bool:
    problem = stored["problem"]
    if problem is None:
        return False
    if is_content_update_id(command.update_id) and stored["fingerprint"] == command.fingerprint:
        return problem["slug"] in DEPENDS_ON_THE_ORDER
    # Where there is no order anybody may ask, and would take the id away from those whose order it becomes.
    # For its own sender the outcome holds: a repeat is answered alike.
    return problem["slug"] == "order-not-found" and stored["source"]["id"] != command.source.id


def _repeated(
    command: AnyCommand, stored: UpdateDocument, events: dict[int, EventDocument], workflow: Workflow
) -> Outcome:
    if stored["fingerprint"] != command.fingerprint:
        return refused(command, key_reused(command))
    if stored["position"] is not None:
        return applied(command, events[stored["position"]], workflow, replayed=True)
    return refused(command, stored["problem"], replayed=True)
