"""Erases persons: the event for each of their orders, and the creates that were still on their way. Pure.

An erasure is in effect from its acceptance. What was received until then holds no name and no contact once
the erasure is done, also if it is decided later. What is received later is of a new person.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tracking_order_state.domain.decisions import Decisions, ErasureStep
from tracking_order_state.domain.due_times import due_fields
from tracking_order_state.domain.lifecycle import closed_fields
from tracking_order_state.domain.overdue import ERASURE_UPDATE_IDS
from tracking_order_state.domain.partition import PartitionPosition
from tracking_order_state.domain.system_events import system_event
from tracking_shared.contracts.commands import (
    AnyCommand,
    CreateOrder,
    decode_command,
    encode_command,
    fingerprint_of,
)
from tracking_shared.contracts.documents import (
    ErasureDocument,
    EventDocument,
    EventType,
    OrderDocument,
    ParkedDocument,
    project,
)
from tracking_shared.contracts.erased import contact_key
from tracking_shared.contracts.texts import canonical_form, words_of_event

ERASER_ID = "tracking:erasure"
"""`source.id` of the events."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """An erasure that is carried out."""

    id: str
    contact_refs: Collection[str]
    merchant_id: str | None
    accepted_at: datetime
    expires_at: datetime

    @classmethod
    def decode(cls, document: ErasureDocument) -> "Erasure":
        """The erasure that is stored in an open document."""
        return cls(
            document["_id"],
            document["contact_refs"],
            document["merchant_id"],
            document["accepted_at"],
            document["expires_at"],
        )

    def concerns(self, order: OrderDocument) -> bool:
        """True if the order is of this person. That it is old enough is another question."""
        customer = order["customer"]
        is_person = customer is not None and customer["contact_ref"] in self.contact_refs
        return is_person and self.merchant_id in (None, order["merchant_id"])


@dataclass(frozen=True, slots=True)
class ErasedContacts:
    """The persons that are erased, by the keyed digests of their contacts."""

    key: bytes = b""
    by_contact: Mapping[str, frozenset[tuple[str | None, datetime]]] = field(default_factory=dict)
    """Digest → merchant, and when the erasure was accepted, of each."""

    @classmethod
    def of(cls, key: bytes, documents: Iterable[ErasureDocument]) -> "ErasedContacts":
        """Those of these erasures, open ones and others."""
        by_contact: dict[str, set[tuple[str | None, datetime]]] = {}
        for document in documents:
            refs = document.get("contact_refs")
            digest = contact_key(key, refs[0]) if refs else document["contact_key"]
            by_contact.setdefault(digest, set()).add((document["merchant_id"], document["accepted_at"]))
        return cls(key, {digest: frozenset(found) for digest, found in by_contact.items()})

    def with_erasure(self, erasure: Erasure) -> "ErasedContacts":
        """These and the person of one more erasure."""
        digest = contact_key(self.key, next(iter(erasure.contact_refs)))
        one = frozenset({(erasure.merchant_id, erasure.accepted_at)})
        return self.with_more(ErasedContacts(self.key, {digest: one}))

    def with_more(self, later: "ErasedContacts") -> "ErasedContacts":
        """Those of both. None is ever left out: of two reads at once, the older one may end last."""
        both = {
            digest: self.by_contact.get(digest, frozenset()) | more
            for digest, more in later.by_contact.items()
        }
        return ErasedContacts(later.key or self.key, {**self.by_contact, **both})

    def apply(self, commands: Sequence[AnyCommand]) -> Sequence[AnyCommand]:
        """The commands, without the customers that are erased."""
        return [self.apply_to(command) for command in commands] if self.by_contact else commands

    def apply_to(self, command: AnyCommand) -> AnyCommand:
        """The command, without its customer if that one is erased."""
        if not self.by_contact or not isinstance(command, CreateOrder) or command.customer is None:
            return command
        found = self.by_contact.get(contact_key(self.key, command.customer.contact_ref), frozenset())
        times = [
            accepted_at
            for merchant_id, accepted_at in found
            if merchant_id in (None, command.merchant_id) and command.received_at <= accepted_at
        ]
        return without_customer(command, min(times)) if times else command


def without_customer(command: CreateOrder, erased_at: datetime) -> CreateOrder:
    """The command without its customer. Its fingerprint stays, so that a repeat is still the same request."""
    return command.model_copy(update={"customer": None, "erased_at": erased_at})


def erase_parked(erasure: Erasure, parked: Iterable[ParkedDocument]) -> list[ParkedDocument]:
    """Those of the parked commands that hold the customer, without it."""
    erased: list[ParkedDocument] = []
    for document in parked:
        command = decode_command(document["command"])
        if isinstance(command, CreateOrder) and _is_of(erasure, command):
            encoded = encode_command(without_customer(command, erasure.accepted_at))
            erased.append({**document, "command": encoded.decode()})
    return erased


def _is_of(erasure: Erasure, command: CreateOrder) -> bool:
    if command.customer is None or command.received_at > erasure.accepted_at:
        return False
    is_person = canonical_form(command.customer.contact_ref) in erasure.contact_refs
    return is_person and erasure.merchant_id in (None, command.merchant_id)


MAX_ERASED_EVENTS = 300
"""Events that one transaction rewrites, about 50 ms: callers wait so long for it at most."""


def fitting(order_ids: Sequence[str], orders: Mapping[str, OrderDocument]) -> tuple[int, int]:
    """The number of these orders that fit one transaction, from the first on, at least one; and the number of
    events to read of them. If so many are found, there may be more.
    """
    events = number = 0
    for order_id in order_ids:
        events += orders[order_id]["version"] if order_id in orders else 0
        if number and events > MAX_ERASED_EVENTS:
            break
        number += 1
    return number, MAX_ERASED_EVENTS + 1


def erase(
    erasure: Erasure,
    orders: Iterable[OrderDocument],
    event_ids: Sequence[int],
    position: PartitionPosition,
    *,
    time: datetime,
) -> Decisions:
    """Erases the customer of `orders`, all of whose earlier events that still hold it are `event_ids`."""
    step = ErasureStep(erasure.id, erasure.accepted_at, erasure.expires_at, event_ids)
    decisions = Decisions(time=time, erasure=step)
    for order in orders:
        event = _erased(erasure, order, position, position.seq + len(decisions.events) + 1, time)
        decisions.events.append(event)
        decisions.orders[order["_id"]] = project(event)
        step.search[order["_id"]] = {
            "_id": order["_id"],
            "merchant_id": event["merchant_id"],
            "created_at": event["created_at"],
            "words": words_of_event(event),
        }
    return decisions


def finish(erasure: Erasure, parked: Sequence[ParkedDocument], *, time: datetime) -> Decisions:
    """Erases the customer in parked commands, and notes that the partition holds nothing of it any more."""
    step = ErasureStep(erasure.id, erasure.accepted_at, erasure.expires_at, is_last=True)
    step.parked.extend(erase_parked(erasure, parked))
    return Decisions(time=time, erasure=step)


def _erased(
    erasure: Erasure, order: OrderDocument, position: PartitionPosition, seq: int, time: datetime
) -> EventDocument:
    update_id = f"{ERASURE_UPDATE_IDS}{erasure.id}"
    fingerprint = fingerprint_of("erase", occurred_at=None, metadata={}, body={"id": erasure.id})
    kind: EventType = "order.customer_erased"
    event = system_event(order, position, seq, time, kind, update_id, ERASER_ID, fingerprint)
    event["customer"] = None
    event["erased_at"] = event["received_at"] = erasure.accepted_at
    active = order["active"]
    others = due_fields(order, active=active) | closed_fields(order, order["status"], active=active)
    return event | others  # type: ignore[return-value]
