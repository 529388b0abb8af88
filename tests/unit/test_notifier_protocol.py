"""Messages: what clients may say, and that what the server says is JSON of the promised shape."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking_notifier.errors import Refusal
from tracking_notifier.stream.filters import Filter
from tracking_notifier.stream.stream_messages import (
    BAD_MESSAGE,
    FilterRequest,
    Refresh,
    Subscribe,
    events_message,
    filter_of,
    live_message,
    parse_client_message,
    problem_message,
    resync_message,
    snapshot_message,
    text_frame,
)
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

STATUSES = DEFAULT_WORKFLOW.statuses


def parsed(**message: Any) -> Subscribe | Refresh:
    return parse_client_message(orjson.dumps(message))


def test_a_subscribe_without_a_cursor_wants_a_snapshot() -> None:
    for message, wanted in (
        ({}, True),
        ({"after": "c"}, False),
        ({"snapshot": False}, False),
        ({"after": "c", "snapshot": True}, True),
    ):
        subscribe = parsed(type="subscribe", **message)
        assert isinstance(subscribe, Subscribe)
        assert subscribe.wants_snapshot is wanted


@pytest.mark.parametrize("name", ["token", "filter", "after", "snapshot", "heartbeat"])
def test_an_optional_member_that_is_null_counts_as_not_given(name: str) -> None:
    assert parsed(type="subscribe", **{name: None}) == parsed(type="subscribe")


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        ({}, Filter(active=True)),
        ({"merchant_id": ["a"]}, Filter(merchant_ids=frozenset("a"), active=True)),
        ({"status": ["created"]}, Filter(statuses=frozenset({"created"}))),
        ({"order_id": ["o"]}, Filter(order_ids=frozenset("o"))),
        ({"active": False}, Filter(active=False)),
        ({"overdue": True}, Filter(active=True, overdue=True)),
        ({"overdue": False, "active": False}, Filter(active=False, overdue=False)),
        ({"order_id": ["o"], "active": True}, Filter(order_ids=frozenset("o"), active=True)),
    ],
)
def test_active_orders_are_meant_unless_something_else_is_said(
    request_: dict[str, Any], wanted: Filter
) -> None:
    assert filter_of(FilterRequest(**request_), STATUSES) == wanted


@given(st.binary() | st.text().map(str.encode))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        parse_client_message(data)
    assert refused.value.code == BAD_MESSAGE
    assert refused.value.problem is not None


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"subscribe","type":"refresh","token":"t"}',
        b'{"type":"subscribe","filter":{"active":true,"active":false}}',
        b'{"type":"subscribe","x":1,"x":2}',
        b'{"type":"subscribe","after":NaN}',
        b"[" * 10_000,
        b"1" * 10_000,
    ],
    ids=["a name twice", "within", "and unknown", "no number", "deep", "long"],
)
def test_what_two_readers_could_take_in_two_ways_is_no_json(data: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        parse_client_message(data)
    assert refused.value.problem is not None
    assert refused.value.problem.slug == "malformed-json"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["subscribe", "refresh", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "token", "filter", "after", "status", "x"]), inner)
    ),
    max_leaves=8,
)


@given(json_values)
def test_any_json_is_a_message_or_refused(document: Any) -> None:
    problem = None
    try:
        parse_client_message(orjson.dumps(document))
    except Refusal as refusal:
        problem = refusal.problem
    assert problem is None or len(problem_message(problem, 32 * "0").body) < 16_384


def test_server_messages_are_json() -> None:
    events = [b'{"id":"a:1"}', b'{"id":"a:2"}']
    for message, expected in (
        (
            events_message(events, "c"),
            {"type": "events", "events": [{"id": "a:1"}, {"id": "a:2"}], "cursor": "c"},
        ),
        (snapshot_message([b"{}"], more=True), {"type": "snapshot", "orders": [{}], "more": True}),
        (snapshot_message([], more=False), {"type": "snapshot", "orders": [], "more": False}),
        (live_message("c"), {"type": "live", "cursor": "c"}),
        (resync_message("r", "c"), {"type": "resync", "reason": "r", "cursor": "c"}),
    ):
        assert orjson.loads(message.body) == expected
        assert (message.type, message.cursor) == (expected["type"], expected.get("cursor"))


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, 300_000])
def test_a_frame_is_whole_unmasked_text(size: int) -> None:
    frame = text_frame(b"x" * size)
    assert frame[0] == 0x81
    assert frame[1] < 128
    assert frame.endswith(b"x" * size)
    assert len(frame) - size == (2 if size < 126 else 4 if size < 65_536 else 10)
