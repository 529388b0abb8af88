"""Parking: a command that our own code fails on waits for an operator, and the later commands of its order
wait behind it, in their order. No I/O, no clock.
"""

from datetime import datetime

from tracking_order_state.domain.decisions import (
    Decisions,
    Known,
    record_refusal,
)
from tracking_order_state.domain.partition import EMPTY_RANGE, ParkedOrders, ParkedRange, Slot
from tracking_order_state.domain.repeats import repeat_of_parked
from tracking_shared.contracts.commands import AnyCommand, encode_command
from tracking_shared.contracts.documents import ParkedDocument, ProblemDocument, update_key

MAX_PARKED_PER_ORDER = 1_000
"""Commands of one order that may be parked, the failing one included: at a scan every minute, most of a
day. Those beyond it are refused, so that one order cannot fill the database."""

TOO_MANY_BEHIND: ProblemDocument = {
    "slug": "internal-error",
    "detail": "An earlier update of the order waits for an operator, and too many wait behind it.",
    "members": {},
}
GIVEN_UP: ProblemDocument = {
    "slug": "internal-error",
    "detail": "The update could not be processed, and an operator has given it up. Nothing was changed.",
    "members": {},
}


def park_behind(
    decisions: Decisions, command: AnyCommand, known: Known, parked_orders: ParkedOrders, slot: Slot
) -> None:
    """Parks a command behind the parked ones of its order, once, however often it is delivered."""
    key = update_key(command.order_id, command.update_id)
    parked_range = decisions.parked_ranges.get(command.order_id) or parked_orders[command.order_id]
    parked = decisions.parked.get(key) or known.parked.get(key)
    order = known.orders.get(command.order_id)
    if parked is not None:
        decisions.outcomes.append(repeat_of_parked(command, parked, order))
    elif parked_range.size >= MAX_PARKED_PER_ORDER:
        record_refusal(decisions, command, order, TOO_MANY_BEHIND, slot.time)
    else:
        _append(decisions, command, parked_range, slot)


def park(
    command: AnyCommand, parked: ParkedDocument | None, parked_orders: ParkedOrders, slot: Slot, error: str
) -> Decisions:
    """Parks a command that failed with `error`. If it is `parked` already, it keeps its place."""
    if parked is not None:
        return fail_again(parked, error)
    decisions = Decisions(time=slot.time)
    _append(decisions, command, parked_orders.get(command.order_id, EMPTY_RANGE), slot, error)
    return decisions


def _append(
    decisions: Decisions, command: AnyCommand, parked_range: ParkedRange, slot: Slot, error: str | None = None
) -> None:
    parked_range = parked_range.with_one_more()
    document: ParkedDocument = {
        "_id": update_key(command.order_id, command.update_id),
        "order_id": command.order_id,
        "update_id": command.update_id,
        "fingerprint": command.fingerprint,
        "partition": slot.partition,
        "place": parked_range.last,
        "command": encode_command(command).decode(),
        "error": error,
        "parked_at": slot.time,
    }
    decisions.parked[document["_id"]] = document
    decisions.parked_ranges[command.order_id] = parked_range
    decisions.outcomes.append(None)


def fail_again(parked: ParkedDocument, error: str) -> Decisions:
    """Keeps a parked command in its place, with the newest `error`."""
    return Decisions([None], parked={parked["_id"]: {**parked, "error": error}})


def give_up(command: AnyCommand, time: datetime) -> Decisions:
    """Refuses a parked command, without looking at its order: that may be what fails."""
    replaceable = {update_key(command.order_id, command.update_id)}  # such an outcome may be stored
    decisions = Decisions(replaced=replaceable, time=time)
    record_refusal(decisions, command, None, GIVEN_UP, time)
    return decisions


def release_first(decisions: Decisions, parked: ParkedDocument, parked_range: ParkedRange) -> None:
    """Adds that the first parked command of an order, which `decisions` are about, is parked no more."""
    decisions.released.append(parked["_id"])
    decisions.parked_ranges[parked["order_id"]] = parked_range.without_first()
