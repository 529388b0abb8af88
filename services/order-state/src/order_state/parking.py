"""Parking: what our own code fails on waits for an operator, and the later commands of its order wait behind
it, in their order. Pure.
"""

from datetime import datetime

from order_state.decided import AnyCommand, Decided, Known, key_reused, record_refusal, refused
from order_state.lifecycle import Slot
from order_state.lines import NEW_LINE, Line, Lines
from shared.commands import decode_command, encode_command
from shared.documents import OrderDocument, ParkedDocument, ProblemDocument, update_key

MAX_WAITING = 1_000
"""Commands of one order that may be parked, the failing one included: at a scan every minute, most of a
day. Those beyond it are refused, so that one order cannot fill the database."""

LINE_FULL: ProblemDocument = {
    "slug": "internal-error",
    "detail": "An earlier update of the order waits for an operator, and too many wait behind it.",
    "members": {},
}
GIVEN_UP: ProblemDocument = {
    "slug": "internal-error",
    "detail": "The update could not be processed, and an operator has given it up. Nothing was changed.",
    "members": {},
}


def wait_behind(decided: Decided, command: AnyCommand, known: Known, lines: Lines, slot: Slot) -> None:
    """Adds a command of a parked order to the end of its line, once, however often it comes."""
    key = update_key(command.order_id, command.update_id)
    line = decided.lines.get(command.order_id) or lines[command.order_id]
    parked = decided.parked.get(key) or known.parked.get(key)
    order = known.orders.get(command.order_id)
    if parked is not None:
        is_repeat = _is_repeat(command, parked, order)
        decided.outcomes.append(None if is_repeat else refused(command, key_reused(command)))
    elif line.waiting >= MAX_WAITING:
        record_refusal(decided, command, order, LINE_FULL, slot.time)
    else:
        _append(decided, command, line, slot)


def _is_repeat(command: AnyCommand, parked: ParkedDocument, order: OrderDocument | None) -> bool:
    # Where there is no order yet, nobody knows who may reach it: a stranger's update will be dropped when the
    # line is released, so the same one of somebody else must not be taken to be waiting.
    is_same = command.fingerprint == parked["fingerprint"]
    return is_same and (order is not None or command.source.id == decode_command(parked["command"]).source.id)


def park(command: AnyCommand, parked: ParkedDocument | None, lines: Lines, slot: Slot, error: str) -> Decided:
    """Parks a command that failed with `error`. If it is `parked` already, it keeps its place."""
    if parked is not None:
        return fail_again(parked, error)
    decided = Decided(time=slot.time)
    line = lines.get(command.order_id, NEW_LINE)
    _append(decided, command, line, slot, error)
    return decided


def _append(decided: Decided, command: AnyCommand, line: Line, slot: Slot, error: str | None = None) -> None:
    line = line.with_one_more()
    document: ParkedDocument = {
        "_id": update_key(command.order_id, command.update_id),
        "order_id": command.order_id,
        "update_id": command.update_id,
        "fingerprint": command.fingerprint,
        "partition": slot.partition,
        "place": line.last,
        "command": encode_command(command).decode(),
        "error": error,
        "parked_at": slot.time,
    }
    decided.parked[document["_id"]] = document
    decided.lines[command.order_id] = line
    decided.outcomes.append(None)


def fail_again(parked: ParkedDocument, error: str) -> Decided:
    """Keeps a parked command in its place, with how it failed now."""
    return Decided([None], parked={parked["_id"]: {**parked, "error": error}})


def give_up(command: AnyCommand, time: datetime) -> Decided:
    """Refuses a parked command, without looking at its order: that may be what fails."""
    decided = Decided(
        replaced={update_key(command.order_id, command.update_id)}, time=time
    )  # there may be one that gives way
    record_refusal(decided, command, None, GIVEN_UP, time)
    return decided


def leave_line(decided: Decided, parked: ParkedDocument, line: Line) -> None:
    """Takes the first command of a line, which `decided` is about, out of it."""
    decided.released.append(parked["_id"])
    decided.lines[parked["order_id"]] = line.without_first()
