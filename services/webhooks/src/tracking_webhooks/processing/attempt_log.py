"""The newest attempts of one webhook, until they are stored."""

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

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

_DELIVERED, _FAILED = DELIVERIES.labels("delivered"), DELIVERIES.labels("failed")


class _Attempt(NamedTuple):
    """An attempt of which no document was made yet."""

    number: int
    message_id: str
    at: datetime
    answer: Answer


class AttemptLog:
    """Numbers the attempts of a webhook and keeps those that are not stored yet (bounded)."""

    def __init__(self, webhook: WebhookDocument) -> None:
        self._webhook_id = webhook["_id"]
        self.made = webhook["attempts"]
        """Attempts so far."""
        self.last: LastAttemptDocument | None = webhook["last_attempt"]
        """The newest attempt that was taken to be stored."""
        self._new: deque[_Attempt] = deque(maxlen=MAX_UNSAVED_ATTEMPTS)
        self._given_back: list[AttemptDocument] = []

    @property
    def has_unsaved(self) -> bool:
        """True if some are to be stored."""
        return bool(self._new or self._given_back)

    def record(self, message_id: str, at: datetime, answer: Answer) -> None:
        """Adds an attempt that has ended."""
        (_DELIVERED if is_delivered(answer.status) else _FAILED).inc()
        DELIVERY_SECONDS.observe(answer.duration_seconds)
        self._new.append(_Attempt(self.made, message_id, at, answer))
        self.made += 1

    def take_unsaved(self) -> list[AttemptDocument]:
        """Those that are to be stored now. Their documents are made here, all at once."""
        taken = [*self._given_back, *map(self._document, self._new)][-MAX_UNSAVED_ATTEMPTS:]
        if self._new:
            self.last = _shown(self._new[-1])
        self._new.clear()
        self._given_back = []
        return taken

    def give_back(self, taken: Sequence[AttemptDocument]) -> None:
        """They could not be stored."""
        self._given_back = [*taken, *self._given_back][-MAX_UNSAVED_ATTEMPTS:]

    def _document(self, attempt: _Attempt) -> AttemptDocument:
        return {
            "_id": attempt_id(self._webhook_id, attempt.number),
            "webhook_id": self._webhook_id,
            "number": attempt.number,
            "expires_at": attempt_expiry(attempt.at),
            **_shown(attempt),
        }


def _shown(attempt: _Attempt) -> LastAttemptDocument:
    answer = attempt.answer
    return {
        "event_id": attempt.message_id,
        "at": attempt.at,
        "outcome": "delivered" if is_delivered(answer.status) else "failed",
        "status": answer.status,
        "error": answer.error,
        "duration_ms": round(answer.duration_seconds * 1000),
    }
