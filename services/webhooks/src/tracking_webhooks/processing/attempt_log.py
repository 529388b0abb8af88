"""The newest attempts of one webhook, until they are stored."""

from datetime import datetime

from tracking_shared.contracts.webhooks import (
    AttemptDocument,
    LastAttemptDocument,
    WebhookDocument,
    attempt_expiry,
    attempt_id,
)
from tracking_webhooks.adapters.http_sender import Answer
from tracking_webhooks.domain.outcome import is_delivered
from tracking_webhooks.metrics import DELIVERIES, DELIVERY_SECONDS

MAX_UNSAVED_ATTEMPTS = 50
"""Stored of each period: the newest ones."""


_COUNTS = {outcome: DELIVERIES.labels(outcome) for outcome in ("delivered", "failed")}


class AttemptLog:
    """Numbers the attempts of a webhook and keeps those that are not stored yet (bounded)."""

    def __init__(self, webhook: WebhookDocument) -> None:
        self._webhook_id = webhook["_id"]
        self.made = webhook["attempts"]
        """Attempts so far."""
        self.last: LastAttemptDocument | None = webhook["last_attempt"]
        self.unsaved: list[AttemptDocument] = []

    def record(self, message_id: str, at: datetime, answer: Answer) -> None:
        """Adds an attempt that has ended."""
        self.last = {
            "event_id": message_id,
            "at": at,
            "outcome": "delivered" if is_delivered(answer.status) else "failed",
            "status": answer.status,
            "error": answer.error,
            "duration_ms": round(answer.duration_seconds * 1000),
        }
        _COUNTS[self.last["outcome"]].inc()
        DELIVERY_SECONDS.observe(answer.duration_seconds)
        self.unsaved.append(
            {
                "_id": attempt_id(self._webhook_id, self.made),
                "webhook_id": self._webhook_id,
                "number": self.made,
                "expires_at": attempt_expiry(at),
                **self.last,
            }
        )
        self.made += 1
        del self.unsaved[:-MAX_UNSAVED_ATTEMPTS]

    def take_unsaved(self) -> list[AttemptDocument]:
        """Those that are to be stored now."""
        taken, self.unsaved = self.unsaved, []
        return taken

    def give_back(self, taken: list[AttemptDocument]) -> None:
        """They could not be stored."""
        self.unsaved = [*taken, *self.unsaved][-MAX_UNSAVED_ATTEMPTS:]
