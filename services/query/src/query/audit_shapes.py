"""What `GET /v1/audit` answers with: its public shape, and an example of it."""

from typing import Any, Literal

from pydantic import with_config
from typing_extensions import TypedDict

from shared.audit_trail import Action
from shared.messages import DESCRIBED, TimeText


@with_config(DESCRIBED)
class AuditActor(TypedDict):
    """Who acted."""

    sub: str
    """The subject of a token, a user of the operating system, or a service."""
    via: Literal["api", "command-line", "service"]


@with_config(DESCRIBED)
class AuditItem(TypedDict):
    """One administrative act."""

    id: str
    at: TimeText
    """Just before the act."""
    actor: AuditActor
    action: Action
    subject: str
    """What it was done to: an order id, a token's id or subject, …"""
    details: dict[str, Any]
    """Ids and settings; never a name, a contact or a token."""


@with_config(DESCRIBED)
class AuditPage(TypedDict):
    """A page of the trail, newest first."""

    items: list[AuditItem]
    next_cursor: str | None
    """The `cursor` of the next page; `null` on the last one."""


AUDIT_PAGE: dict[str, Any] = {
    "items": [
        {
            "id": "019c1e5c-5b7a-7c11-9d0e-3f5f6c1b2a90",
            "at": "2026-03-02T09:41:00.250Z",
            "actor": {"sub": "ann", "via": "command-line"},
            "action": "revocation.subject",
            "subject": "driver-17",
            "details": {"issued_before": "2026-03-02T09:41:00.201Z", "until": None},
        }
    ],
    "next_cursor": None,
}
