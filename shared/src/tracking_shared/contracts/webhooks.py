"""Webhooks as they are stored, and which events each one gets. Pure."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from tracking_shared.contracts.access import (
    Grant,
    Principal,
    ReadableOrders,
    reaches,
    readable_orders,
    sees_customer,
)
from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.documents import EventDocument, EventType, event_type

WebhookState = Literal["active", "failing", "disabled"]

DisabledReason = Literal["failed-too-long", "gone", "revoked", "log-replaced"]

MAX_WEBHOOKS_PER_SUBJECT = 1_000
"""Each costs a sender some 20 KB, and a write whenever its cursor moves."""

MAX_DELAYED_ORDERS = 256
"""Orders of one webhook whose delivery failed and is tried again later. They are part of its document, some
150 bytes each. With so many the cursor stops until one of them is delivered."""

KEPT_ATTEMPTS = 200
"""Of each webhook, the newest ones."""

ATTEMPT_DAYS = 30

MAX_OPEN_TESTS = 20
"""Test deliveries of one webhook that were asked for and are not made. More replace the oldest ones."""

OLD_SECRET_HOURS = 24
"""The time for which a secret that was rotated out signs too."""


class FilterDocument(TypedDict):
    """The events that a webhook asks for. A member that is not there accepts every value."""

    merchant_id: NotRequired[list[str]]
    order_id: NotRequired[list[str]]
    status: NotRequired[list[str]]
    type: NotRequired[list[str]]


class GrantDocument(TypedDict):
    """The rights under which a webhook gets events: those of the token that registered or renewed it."""

    merchants: list[str]
    orders: list[str] | None
    sub: str
    token_id: str | None
    issued_at: float | None


class DelayedOrderDocument(TypedDict):
    """An order whose event could not be delivered: all its events from `version` on wait."""

    order_id: str
    partition: int
    version: int
    failures: int
    since: datetime | None
    """When the event of `version` failed first; None: it was not tried yet."""
    next_at: datetime


class LastAttemptDocument(TypedDict):
    """The outcome of one request to a receiver. Nothing of what it answered is kept but the status."""

    event_id: str
    at: datetime
    outcome: Literal["delivered", "failed"]
    status: int | None
    """Of HTTP; None: there was no answer."""
    error: str | None
    duration_ms: int


class MissedDocument(TypedDict):
    """Events that were archived before they could be delivered."""

    events: int
    """With a filter, those of others among them."""
    at: datetime
    """When the newest of them were noticed."""
    through: list[int]
    """By partition: counted up to here."""


class SampleRequestDocument(TypedDict):
    """A test delivery that was asked for and is not made yet."""

    id: str
    requested_at: datetime


class WebhookDocument(TypedDict):
    """One webhook (collection `webhooks`).

    Whoever changes more than `sender` adds 1 to `fence` and compares it, so a sender whose webhook was
    changed or taken over cannot write what it knew before.
    """

    _id: str
    url: str
    filter: FilterDocument
    description: str | None
    grant: GrantDocument
    created_at: datetime
    updated_at: datetime
    fence: int
    sender: str | None
    """The process that delivers for it; None: any may take it."""
    state: WebhookState
    reason: DisabledReason | None
    """Why it is disabled."""
    epoch: str
    seqs: list[int]
    """All events up to these positions are delivered, not asked for, or of a delayed order."""
    delayed: list[DelayedOrderDocument]
    failures: int
    """In a row, of the endpoint as a whole: it could not be reached, or asked to wait."""
    failing_since: datetime | None
    resume_at: datetime | None
    last_attempt: LastAttemptDocument | None
    attempts: int
    """Made so far; counts the entries in `webhook_attempts`."""
    missed: MissedDocument | None
    tests: list[SampleRequestDocument]
    """At most `MAX_OPEN_TESTS`, the oldest one first."""


class WebhookSecretDocument(TypedDict):
    """A secret that signs (collection `webhook_secrets`). query only adds them, and only the sender reads."""

    _id: str
    webhook_id: str
    key: bytes
    created_at: datetime
    until: datetime | None
    """When it ends; None: it is the newest one."""


class AttemptDocument(LastAttemptDocument):
    """One of the newest attempts (collection `webhook_attempts`); `_id` = `attempt_id`."""

    _id: str
    webhook_id: str
    number: int
    expires_at: datetime


class SenderDocument(TypedDict):
    """A sender that lives (collection `webhook_senders`). Others see it by `beats`, which it counts up."""

    _id: str
    beats: int
    expires_at: datetime


def attempt_id(webhook_id: str, number: int) -> str:
    """`_id` of an attempt. A later one takes the place of one that is `KEPT_ATTEMPTS` older."""
    return f"{webhook_id}/{number % KEPT_ATTEMPTS}"


def principal_of(grant: GrantDocument) -> Principal:
    """The holder of the token under which a webhook gets events, for the list of revocations."""
    return Principal(
        subject=grant["sub"],
        source_type="system",
        scopes=frozenset(),
        grant=grant_of(grant),
        expires_at=math.inf,
        token_id=grant["token_id"],
        issued_at=grant["issued_at"],
    )


def attempt_expiry(at: datetime) -> datetime:
    """When an attempt is forgotten."""
    return at + timedelta(days=ATTEMPT_DAYS)


@dataclass(frozen=True, slots=True)
class EventSelection:
    """The events that a webhook gets: those of its grant that its filter accepts."""

    grant: Grant
    merchant_ids: frozenset[str] | None
    order_ids: frozenset[str] | None
    statuses: frozenset[str] | None
    types: frozenset[str] | None

    @property
    def readable(self) -> ReadableOrders:
        """The merchants and orders that it is limited to."""
        return readable_orders(self.grant, self.merchant_ids, self.order_ids)

    @property
    def with_customer(self) -> bool:
        """True if its events have names and contacts."""
        return sees_customer(self.grant)

    @property
    def is_everything(self) -> bool:
        """True if it gets every event of the log."""
        return not self.stages()

    def matches(self, event: EventDocument) -> bool:
        """True if it gets this event."""
        return (
            reaches(self.grant, event["order_id"], event["merchant_id"])
            and _accepts(self.merchant_ids, event["merchant_id"])
            and _accepts(self.order_ids, event["order_id"])
            and _accepts(self.statuses, event["status"])
            and _accepts(self.types, event_type(event))
        )

    def stages(self) -> list[dict[str, Any]]:
        """The same as conditions of database queries, all of which must hold."""
        conditions = self.readable.conditions("order_id")
        if self.statuses is not None:
            conditions["status"] = {"$in": sorted(self.statuses)}
        stages = [conditions] if conditions else []
        return stages if self.types is None else [*stages, _type_conditions(self.types)]


def _accepts(wanted: frozenset[str] | None, value: str) -> bool:
    return wanted is None or value in wanted


def _type_conditions(types: Collection[str]) -> dict[str, Any]:
    # The two types that an event does not store follow from its version (`event_type`).
    implied: dict[EventType, dict[str, Any]] = {
        "order.created": {"type": None, "version": 1},
        "order.status_changed": {"type": None, "version": {"$gt": 1}},
    }
    forms = [condition for name, condition in implied.items() if name in types]
    return {"$or": [{"type": {"$in": sorted(types)}}, *forms]}


def grant_of(document: GrantDocument) -> Grant:
    """The grant that is stored."""
    orders = document["orders"]
    return Grant(
        merchants=frozenset(document["merchants"]), orders=None if orders is None else frozenset(orders)
    )


def selection_of(webhook: WebhookDocument) -> EventSelection:
    """The events that this webhook gets."""
    wanted = webhook["filter"]

    def names(values: Sequence[str] | None) -> frozenset[str] | None:
        return None if values is None else frozenset(values)

    return EventSelection(
        grant=grant_of(webhook["grant"]),
        merchant_ids=names(wanted.get("merchant_id")),
        order_ids=names(wanted.get("order_id")),
        statuses=names(wanted.get("status")),
        types=names(wanted.get("type")),
    )


def position_of(webhook: WebhookDocument) -> Position:
    """The position up to which it has been served."""
    return Position(webhook["epoch"], tuple(webhook["seqs"]))
