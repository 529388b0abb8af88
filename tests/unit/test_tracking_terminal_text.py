"""Texts of others, as a terminal shows them."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tracking.audit import describe
from tracking.event_lines import event_line
from tracking.revoke import SubjectRevocation
from tracking.terminal_text import terminal_text

HOSTILE = "ann\u202e\u2066x\u200b"
ESCAPED = "ann\\u202e\\u2066x\\u200b"


@given(st.text())
def test_what_is_shown_can_be_printed(text: str) -> None:
    assert terminal_text(text).isprintable()
    assert not text.isprintable() or terminal_text(text) == text


def test_a_subject_cannot_reorder_the_line_that_it_is_in() -> None:
    time = datetime(2026, 1, 31, tzinfo=UTC)
    assert ESCAPED in str(SubjectRevocation(HOSTILE, time, None))
    entry = {
        "_id": "x",
        "at": time,
        "actor": {"sub": HOSTILE, "via": "api"},
        "action": "revocation.subject",
        "subject": HOSTILE,
        "details": {},
        "expires_at": None,
    }
    assert describe(entry).count(ESCAPED) == 2  # type: ignore[arg-type]
    event = {
        "data": {
            "order_id": "o-1",
            "merchant_id": "acme",
            "previous_status": None,
            "status": "created",
            "version": 1,
            "source": {"type": "driver", "id": HOSTILE},
            "occurred_at": None,
            "recorded_at": "2026-01-31T08:15:00.000Z",
        }
    }
    assert ESCAPED in event_line(event).plain
