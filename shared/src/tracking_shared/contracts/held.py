"""Held updates: those that came too early and wait for what comes before them (collection `held`)."""

from collections.abc import Iterable

from tracking_shared.contracts.access import reaches
from tracking_shared.contracts.commands import AnyCommand, decode_command
from tracking_shared.contracts.documents import HeldDocument, OrderDocument, UpdateDocument, update_key


def held_id(order_id: str, update_id: str, source_id: str) -> str:
    """`_id` of a held update. No identifier holds a slash, so two triples never share one."""
    return f"{order_id}/{update_id}/{source_id}"


def sender_key(partition: int, source_id: str) -> str:
    """Stands for a sender in a partition."""
    return f"{partition}/{source_id}"


def held_update_key(held: HeldDocument) -> str:
    """The `update_key` of a held update."""
    return update_key(held["order_id"], held["update_id"])


def command_of(held: HeldDocument) -> AnyCommand:
    """The command that is held."""
    return decode_command(held["command"])


def is_of_order(held: HeldDocument, order: OrderDocument) -> bool:
    """True if the sender reaches the order. Anybody may send an update for an order that is not there yet."""
    return reaches(command_of(held).grant, order["_id"], order["merchant_id"])


def held_outcomes(held: Iterable[HeldDocument], order: OrderDocument | None) -> list[UpdateDocument]:
    """The outcomes of updates while they are held. Those of strangers belong to no merchant."""
    return [held_outcome(one, order if order and is_of_order(one, order) else None) for one in held]


def held_outcome(held: HeldDocument, order: OrderDocument | None = None) -> UpdateDocument:
    """The outcome of an update while it is held. `order`: that for which its sender is entitled, if there is
    one.
    """
    outcome: UpdateDocument = {
        "_id": held_update_key(held),
        "order_id": held["order_id"],
        "update_id": held["update_id"],
        "fingerprint": held["fingerprint"],
        "outcome": "held",
        "version": None,
        "position": None,
        "problem": None,
        "requested_status": held["requested_status"],
        "merchant_id": order["merchant_id"] if order else held["merchant_id"],
        "source": held["source"],
        "recorded_at": held["held_at"],
    }
    if "kind" in held:
        outcome["kind"] = held["kind"]
    return outcome
