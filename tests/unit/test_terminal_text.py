"""Text that a terminal would act on, or not show, is written as escapes."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.cli.token_commands import SubjectRevocation
from tracking.terminal import event_line, printable
from tracking.upkeep.audit import describe

HOSTILE = "ann\u202e\u2066x\u200b"
ESCAPED = "ann\\u202e\\u2066x\\u200b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Jürgen Groß 東京 🚚", "Jürgen Groß 東京 🚚"),
        ("\x1b[31m\x07\x9b", "\\u001b[31m\\u0007\\u009b"),
        ("a\u202eb\u2066c\u200fd\u061ce", "a\\u202eb\\u2066c\\u200fd\\u061ce"),
        ("a\r\nb\u2028c\u2029", "a\\u000d\\u000ab\\u2028c\\u2029"),
        ("\ud800", "\\ud800"),
        ("\u200b\u3164\u2800\u00ad\ufeff", "\\u200b\\u3164\\u2800\\u00ad\\ufeff"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_hidden_characters_become_escapes_and_all_others_stay(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_what_is_shown_is_shown_again_as_it_is(text: str) -> None:
    assert printable(printable(text)) == printable(text)


@given(st.text())
def test_all_that_is_shown_but_spaces_can_be_printed(text: str) -> None:
    assert all(character.isprintable() or character.isspace() for character in printable(text))


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
