"""One line an event."""

from datetime import timedelta

import pytest

from tracking.terminal import describe_duration, event_line, lateness

EVENT = {
    "data": {
        "order_id": "o-1",
        "merchant_id": "acme",
        "version": 2,
        "status": "picked_up",
        "previous_status": "created",
        "source": {"type": "driver", "id": "driver-7"},
        "occurred_at": None,
        "recorded_at": "2026-01-31T08:15:00.123Z",
    }
}


def test_a_line_says_what_a_person_wants_to_know() -> None:
    text = event_line(EVENT).plain

    assert all(
        word in text for word in ("o-1", "acme", "created → picked_up", "v2", "driver driver-7", "15:00.123")
    )


def test_an_order_has_the_name_that_its_merchant_gave_it() -> None:
    named = {"data": EVENT["data"] | {"reference": "WH/OUT/00012\u202e"}}
    assert "WH/OUT/00012\\u202e" in event_line(named).plain
    assert "o-1" not in event_line(named).plain
    assert "o-1" in event_line({"data": EVENT["data"] | {"reference": None}}).plain


def test_a_checkpoint_and_a_correction_are_told_with_their_texts() -> None:
    told: dict[str, object] = {"kind": "delivery_attempted", "message": "nobody\nat\x1b[2J home"}
    checkpoint = event_line({"data": EVENT["data"] | told}).plain
    assert "delivery_attempted: nobody at\\u001b[2J home  v2" in checkpoint
    assert "→" not in checkpoint
    assert "note  v2" in event_line({"data": EVENT["data"] | {"kind": "note"}}).plain
    correction = event_line({"data": EVENT["data"] | {"reason": "wrong parcel"}}).plain
    assert "created → picked_up  corrected: wrong parcel  v2" in correction


def test_an_order_that_is_overdue_is_told_with_its_due_time() -> None:
    due = EVENT["data"] | {"due_at": "2026-01-31T08:00:00.000Z"}
    text = event_line({"type": "order.overdue", "data": due}).plain
    assert "picked_up  overdue: was due at 2026-01-31T08:00:00.000Z  v2" in text
    assert "→" not in text


@pytest.mark.parametrize(
    ("occurred_at", "said"),
    [
        (None, ""),
        ("2026-01-31T08:14:50.000Z", ""),
        ("2026-01-31T08:20:00.000Z", ""),
        ("2026-01-31T07:45:00.000Z", "  reported 30 min late"),
    ],
)
def test_only_what_is_late_is_marked(occurred_at: str | None, said: str) -> None:
    assert lateness(EVENT["data"] | {"occurred_at": occurred_at}) == said


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(minutes=3), "3 min"),
        (timedelta(hours=2, minutes=30), "2.5 h"),
        (timedelta(days=12), "12 d"),
    ],
)
def test_durations_for_people(duration: timedelta, text: str) -> None:
    assert describe_duration(duration) == text
