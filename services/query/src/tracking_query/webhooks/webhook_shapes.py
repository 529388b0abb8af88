"""Shapes of the answers about webhooks, with examples, and the views that fill them."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from tracking_query.webhooks.pending import Pending
from tracking_shared.contracts.documents import EventType
from tracking_shared.contracts.identifiers import Identifier, Subject
from tracking_shared.contracts.messages import DESCRIBED, CursorText, StatusText, TimeText
from tracking_shared.contracts.timestamps import format_optional_time, format_time
from tracking_shared.contracts.webhooks import (
    KEPT_ATTEMPTS,
    DisabledReason,
    LastAttemptDocument,
    WebhookDocument,
    WebhookState,
)

WEBHOOK_ID = "wh_6f1d2c0a94e84d53b6f3c2a1908d7e55"


@with_config(DESCRIBED)
class WebhookFilter(TypedDict):
    """The events that it gets. A member that is not there accepts every value."""

    merchant_id: NotRequired[list[Identifier]]
    order_id: NotRequired[list[Identifier]]
    status: NotRequired[list[StatusText]]
    type: NotRequired[list[EventType]]


@with_config(DESCRIBED)
class AttemptView(TypedDict):
    """One request to the receiver."""

    event_id: str
    """The `webhook-id`: that of the event, or of a test delivery."""
    at: TimeText
    outcome: Literal["delivered", "failed"]
    status: Annotated[int | None, Field(ge=100, le=599)]
    """Of the answer; `null`: there was none."""
    error: str | None
    """Why there was no answer: `timeout`, `connection`, `name`, `address` (not one that requests may go to),
    `certificate`, `tls`, `protocol`.
    """
    duration_ms: Annotated[int, Field(ge=0)]


@with_config(DESCRIBED)
class MissedView(TypedDict):
    """Events that were archived before they could be delivered."""

    events: Annotated[int, Field(ge=1)]
    """So many at most: with a filter, those that it refuses are among them."""
    at: TimeText
    """When the newest of them were noticed."""


@with_config(DESCRIBED)
class WebhookView(TypedDict):
    """A webhook, and how far it is."""

    id: Identifier
    url: str
    filter: WebhookFilter
    description: str | None
    state: WebhookState
    """`failing`: something was not delivered and is tried again. `disabled`: nothing is sent until it is
    enabled.
    """
    reason: DisabledReason | None
    """Why it is disabled: it failed for three days, the receiver answered 410, the token that it was
    registered with was revoked, or the log was replaced.
    """
    cursor: CursorText
    """Everything before it is delivered, but for the delayed orders."""
    pending: Annotated[int, Field(ge=0)]
    """Events that are still to be delivered."""
    pending_exact: bool
    """False: there may be more; they are too many to be counted."""
    delayed_orders: Annotated[int, Field(ge=0)]
    """Orders that an event failed for. They wait for the next attempt while the others go on."""
    next_attempt_at: TimeText | None
    """While the receiver cannot be reached or asks to wait: when it is asked again."""
    last_attempt: AttemptView | None
    missed: MissedView | None
    """What was archived before it could be delivered, and is not delivered any more. `null`: nothing."""
    created_at: TimeText
    updated_at: TimeText
    """When it was last changed by a request."""
    created_by: Subject
    """The `sub` of the token under whose rights it gets events."""


class NewWebhookView(WebhookView):
    """A webhook that was just registered."""

    secret: NotRequired[Annotated[str, Field(pattern=r"^whsec_[A-Za-z0-9+/]+=*$")]]
    """For the signatures. Shown this once; not in a replay."""


@with_config(DESCRIBED)
class SecretView(TypedDict):
    """A new secret."""

    id: Identifier
    secret: Annotated[str, Field(pattern=r"^whsec_[A-Za-z0-9+/]+=*$")]
    """Shown this once."""
    previous_until: TimeText
    """Until then the secret before it signs, too."""


@with_config(DESCRIBED)
class WebhookPage(TypedDict):
    """A page of webhooks, newest first."""

    items: list[WebhookView]
    next_cursor: str | None
    """The `cursor` of the next page; `null` on the last one."""


@with_config(DESCRIBED)
class AttemptPage(TypedDict):
    """The newest attempts, newest first."""

    items: Annotated[list[AttemptView], Field(max_length=KEPT_ATTEMPTS)]


@with_config(DESCRIBED)
class OpenTestView(TypedDict):
    """A test delivery that was asked for and not made yet."""

    event_id: str
    """By which it is found among the attempts."""


ATTEMPT: dict[str, Any] = {
    "event_id": "acme-1001:2",
    "at": "2026-03-02T09:40:12.471Z",
    "outcome": "delivered",
    "status": 204,
    "error": None,
    "duration_ms": 12,
}
TEST_ATTEMPT: dict[str, Any] = {**ATTEMPT, "event_id": "test_019c1e5c5b7a7c119d0e3f5f6c1b2a90"}
WEBHOOK: dict[str, Any] = {
    "id": WEBHOOK_ID,
    "url": "https://shop.example.com/tracking-events",
    "filter": {"merchant_id": ["acme"]},
    "description": "Shop",
    "state": "active",
    "reason": None,
    "cursor": "eyJlIjoiMDE5ZiIsInMiOlsxNywyMSwxOSwyNF19",
    "pending": 0,
    "pending_exact": True,
    "delayed_orders": 0,
    "next_attempt_at": None,
    "last_attempt": ATTEMPT,
    "missed": None,
    "created_at": "2026-03-02T09:00:00.000Z",
    "updated_at": "2026-03-02T09:00:00.000Z",
    "created_by": "shop-acme",
}
EXAMPLE_SECRET = "whsec_" + "A" * 43 + "="
NEW_WEBHOOK: dict[str, Any] = {**WEBHOOK, "last_attempt": None, "secret": EXAMPLE_SECRET}
SECRET: dict[str, Any] = {
    "id": WEBHOOK_ID,
    "secret": EXAMPLE_SECRET,
    "previous_until": "2026-03-03T09:41:00.250Z",
}
WEBHOOK_PAGE: dict[str, Any] = {"items": [WEBHOOK], "next_cursor": None}
ATTEMPT_PAGE: dict[str, Any] = {"items": [ATTEMPT]}


def attempt_view(attempt: LastAttemptDocument) -> dict[str, Any]:
    """An attempt as it is shown."""
    return {
        "event_id": attempt["event_id"],
        "at": format_time(attempt["at"]),
        "outcome": attempt["outcome"],
        "status": attempt["status"],
        "error": attempt["error"],
        "duration_ms": attempt["duration_ms"],
    }


def webhook_view(webhook: WebhookDocument, pending: Pending, cursor: str) -> dict[str, Any]:
    """A webhook as it is shown."""
    last, missed = webhook["last_attempt"], webhook["missed"]
    return {
        "id": webhook["_id"],
        "url": webhook["url"],
        "filter": webhook["filter"],
        "description": webhook["description"],
        "state": webhook["state"],
        "reason": webhook["reason"],
        "cursor": cursor,
        "pending": pending.events,
        "pending_exact": pending.exact,
        "delayed_orders": len(webhook["delayed"]),
        "next_attempt_at": format_optional_time(webhook["resume_at"]),
        "last_attempt": None if last is None else attempt_view(last),
        "missed": None if missed is None else {"events": missed["events"], "at": format_time(missed["at"])},
        "created_at": format_time(webhook["created_at"]),
        "updated_at": format_time(webhook["updated_at"]),
        "created_by": webhook["grant"]["sub"],
    }
