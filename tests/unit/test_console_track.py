"""The words of the customer's page: what an order is doing, when it comes, and what happened to it."""

from typing import Any

import pytest
from console_scripts import answer_of

NOW = "2026-03-01T12:00:00.000Z"
PAST, DUE, LATER = (f"2026-03-01T{hour}:00:00.000Z" for hour in (11, 13, 15))

OPEN: dict[str, Any] = {"status": "in_transit", "active": True, "due_at": None, "eta": None, "overdue": False}


def ran(expression: str, *given: object) -> Any:
    script = f"""
      import {{ headline, promise, story }} from "./track_words.js";
      process.env.TZ = "UTC";
      const today = new Date(Date.parse("{NOW}"));
      const now = today.getTime();
      const plain = Date;
      globalThis.Date = class extends plain {{
        constructor(...time) {{
          super(...(time.length ? time : [now]));
        }}
      }};
      console.log(JSON.stringify({expression}));
    """
    return answer_of(script, list(given))


@pytest.mark.parametrize(
    ("times", "text", "is_late"),
    [
        ({}, "", False),
        ({"due_at": DUE}, "Expected by 13:00.", False),
        ({"eta": DUE}, "Expected at 13:00.", False),
        ({"eta": DUE, "due_at": LATER}, "Expected at 13:00.", False),
        ({"eta": LATER, "due_at": DUE}, "Late: expected at 15:00 instead of 13:00.", True),
        ({"eta": DUE.replace("00.000", "59.999"), "due_at": DUE}, "Expected at 13:00.", False),
        ({"eta": PAST, "due_at": DUE}, "Expected by 13:00.", False),
        ({"eta": PAST}, "It was expected at 11:00.", False),
        ({"overdue": True, "due_at": PAST}, "Late: it was due by 11:00.", True),
        (
            {"overdue": True, "due_at": PAST, "eta": LATER},
            "Late: it was due by 11:00. It is now expected at 15:00.",
            True,
        ),
        ({"overdue": True, "due_at": PAST, "eta": PAST}, "Late: it was due by 11:00.", True),
        ({"active": False, "due_at": PAST, "eta": LATER}, "", False),
    ],
)
def test_the_customer_reads_when_the_order_comes(times: dict[str, Any], text: str, *, is_late: bool) -> None:
    assert ran("promise(given[0], now)", OPEN | times) == {"text": text, "isLate": is_late}


def test_an_attempt_or_delay_since_the_last_step_is_what_the_order_does() -> None:
    step = {"status": "in_transit"}
    attempt = {"kind": "delivery_attempted", "message": "Nobody at home"}
    delay, note = {"kind": "delayed"}, {"kind": "note", "message": "Ring twice"}
    overdue = {"type": "order.overdue"}

    def title(*steps: object, **order: object) -> Any:
        return ran("headline(given[0], given[1])", OPEN | order, steps)

    attempted = ["We tried to deliver", "It did not work this time: Nobody at home"]
    assert title(step, attempt, note, overdue) == attempted
    assert title(step, attempt, step) == ["On its way", "Your parcel is travelling to you."]
    assert title(step, attempt, delay) == ["On its way", "Your parcel is delayed."]
    assert title(step, attempt, active=False, status="delivered")[0] == "Delivered"
    assert title(step, status="held_at_customs") == ["Held at customs", ""]
    assert title(step, status="constructor") == ["Constructor", ""]


def test_each_step_is_told_with_what_it_brought() -> None:
    def told(item: dict[str, Any], before: dict[str, Any] | None = None) -> Any:
        answer = ran("story(given[0], given[1] ?? undefined)", item, before)
        return [answer["title"], *answer["told"]]

    assert told({"status": "created", "due_at": DUE}) == ["Ordered", "Due by 13:00."]
    assert told({"status": "in_transit"}, {"status": "in_transit"}) == ["Passed another station"]
    assert told(
        {"status": "in_transit", "kind": "eta_changed", "eta": LATER, "due_at": DUE}, {"due_at": DUE}
    ) == [
        "New estimate",
        "Expected at 15:00.",
    ]
    assert told({"status": "delivered", "kind": "weighed", "message": "2 kg"}) == ["Weighed", "2 kg"]
    assert told({"status": "in_transit", "reason": "Wrong parcel"}) == [
        "Corrected: on its way",
        "Wrong parcel",
    ]
    assert told({"status": "in_transit", "type": "order.overdue", "due_at": PAST}) == [
        "Later than promised",
        "It was due by 11:00.",
    ]
