"""Answers commands whose update id was used before on their order. Pure. `batch` and `parking` find them.

The earlier update was applied (there is its event), was refused (there is its refusal), is held, or is
parked. The same request gets the same outcome, marked as `replayed`; the API calls a replayed `applied` a
`duplicate`. Another request under the update id is refused with `idempotency-key-reused`.
"""

from tracking_order_state.domain.decisions import applied, held_outcome_of, key_reused, refused
from tracking_shared.contracts.commands import (
    AnyCommand,
    CreateOrder,
    Outcome,
    UpdateOrder,
    decode_command,
)
from tracking_shared.contracts.documents import (
    EventDocument,
    HeldDocument,
    OrderDocument,
    ParkedDocument,
    UpdateDocument,
)
from tracking_shared.contracts.identifiers import is_content_update_id
from tracking_shared.contracts.workflow import Workflow

DEPENDS_ON_THE_ORDER = frozenset(
    {"invalid-transition", "order-not-found", "order-exists", "order-archived", "version-conflict"}
)
"""Refusals that depend on the state of the order. Under an update id that is derived from content they are
decided again: whoever loads a file again has no other id for the same content."""


def repeat_of_applied(command: AnyCommand, event: EventDocument, workflow: Workflow) -> Outcome:
    """The outcome of a command whose update id has made `event`."""
    if not _is_request_of(event, command):
        return refused(command, key_reused(command))
    return applied(command, event, workflow, replayed=True)


def is_decided_anew(command: AnyCommand, refusal: UpdateDocument) -> bool:
    """True if a command whose update id has this `refusal` is decided, and may replace the refusal."""
    slug = refusal["problem"]["slug"] if refusal["problem"] else None
    if is_content_update_id(command.update_id) and refusal["fingerprint"] == command.fingerprint:
        return slug in DEPENDS_ON_THE_ORDER
    # Anybody may send an update for an order that does not exist. A stranger's refusal must not block the
    # update id for the owner of the order that is created later. The sender's own repeat is answered alike.
    return slug == "order-not-found" and refusal["source"]["id"] != command.source.id


def repeat_of_refused(command: AnyCommand, refusal: UpdateDocument) -> Outcome:
    """The outcome of a command whose update id has this `refusal`, unless it `is_decided_anew`."""
    if refusal["fingerprint"] != command.fingerprint:
        return refused(command, key_reused(command))
    return refused(command, refusal["problem"], replayed=True)


def repeat_of_held(command: AnyCommand, held: HeldDocument) -> Outcome:
    """The outcome of a command whose update id is `held`."""
    if held["fingerprint"] != command.fingerprint:
        return refused(command, key_reused(command))
    return held_outcome_of(command, replayed=True)


def repeat_of_parked(
    command: AnyCommand, parked: ParkedDocument, order: OrderDocument | None
) -> Outcome | None:
    """The outcome of a command whose update id is `parked`. None: it has no outcome yet, like the parked one,
    whose outcome the caller reads later.
    """
    # Where there is no order yet, nobody knows who may reach it: a stranger's update will be dropped when the
    # order is released, so the same one of somebody else must not be taken to be waiting.
    is_sender = order is not None or command.source.id == decode_command(parked["command"]).source.id
    if is_sender and command.fingerprint == parked["fingerprint"]:
        return None
    return refused(command, key_reused(command))


def _has_customer_of(event: EventDocument, command: CreateOrder) -> bool:
    if event["customer"] is None or command.customer is None:  # erased: nobody knows any more
        return True
    return event["customer"] == command.customer.model_dump()


def _is_request_of(event: EventDocument, command: AnyCommand) -> bool:
    """True if `event` was made by the same request as `command`, which has its update id.

    An event of an earlier release whose outcome had expired has no fingerprint. Then it must be what the
    command would make, as far as an event says what was asked.
    """
    if "fingerprint" in event:
        return event["fingerprint"] == command.fingerprint
    if (event["occurred_at"], event["metadata"]) != (command.occurred_at, command.metadata):
        return False
    if isinstance(command, CreateOrder):
        asked = (command.merchant_id, command.reference, command.due_at)
        made = (event["merchant_id"], event.get("reference"), event.get("due_at"))
        is_same = event["previous_status"] is None and made == asked
        return is_same and _has_customer_of(event, command)
    if not isinstance(command, UpdateOrder):  # no earlier release took these
        return False
    return event["previous_status"] is not None and event["status"] == command.status
