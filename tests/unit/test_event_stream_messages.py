"""Event streams: what their requests may say, and how messages look on them."""

import re
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking_notifier.errors import Refusal
from tracking_notifier.stream.sse import (
    PARAMETERS,
    accepts_event_stream,
    event_stream_frame,
    event_stream_request,
    parameter_problem,
)
from tracking_notifier.stream.stream_messages import (
    FilterRequest,
    ServerMessage,
    Subscribe,
    events_message,
    live_message,
    parse_client_message,
    snapshot_message,
)
from tracking_shared.contracts.cursors import NO_EPOCH, RESYNC_CURSOR, open_cursor

texts = st.text(max_size=20)


def test_a_message_has_its_type_its_cursor_and_the_same_json() -> None:
    assert event_stream_frame(live_message("c1")) == (
        b'event: live\nid: c1\ndata: {"type":"live","cursor":"c1"}\n\n'
    )
    assert event_stream_frame(snapshot_message([b"{}"], more=False)) == (
        b'event: snapshot\ndata: {"type":"snapshot","orders":[{}],"more":false}\n\n'
    )


@given(st.lists(st.dictionaries(texts, texts, max_size=3), max_size=3))
def test_no_text_in_a_message_breaks_its_lines(documents: list[dict[str, str]]) -> None:
    message = events_message([orjson.dumps(document) for document in documents], "c1")
    frame = event_stream_frame(message).decode()
    # The line ends of the specification, and no others: those that Python's `splitlines` knows are content.
    event, position, data, *end = re.split("\r\n|\n|\r", frame)
    assert (event, position, end) == ("event: events", "id: c1", ["", ""])
    assert orjson.loads(data.removeprefix("data: "))["events"] == documents


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", {}),
        ("merchant_id=acme&merchant_id=beta", {"filter": {"merchant_id": ["acme", "beta"]}}),
        ("order_id=o-1&status=created", {"filter": {"order_id": ["o-1"], "status": ["created"]}}),
        ("active=true&overdue=false", {"filter": {"active": True, "overdue": False}}),
        ("after=abc", {"after": "abc"}),
        ("snapshot=false&heartbeat=true", {"snapshot": False, "heartbeat": True}),
        ("after=abc&snapshot=true", {"after": "abc", "snapshot": True}),
        ("merchant_id=a%3Ab", {"filter": {"merchant_id": ["a:b"]}}),
    ],
)
def test_a_query_says_what_a_subscribe_says(query: str, message: dict[str, Any]) -> None:
    expected = parse_client_message(orjson.dumps({"type": "subscribe", "filter": {}} | message))
    assert event_stream_request(query, "") == expected


@pytest.mark.parametrize("query", ["", "after=old", "after=old&snapshot=true", "snapshot=false"])
def test_a_client_that_reconnects_goes_on_from_its_last_event(query: str) -> None:
    request = event_stream_request(query, "newest")
    assert (request.after, request.wants_snapshot) == ("newest", False)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("colour=red", "/query/colour"),
        ("token=abc", "/query/token"),
        ("type=subscribe", "/query/type"),
        ("filter=x", "/query/filter"),
        ("after=a&after=b", "/query/after"),
        ("active=yes", "/query/active"),
        ("active=true&active=true", "/query/active"),
        ("snapshot=", "/query/snapshot"),
        ("merchant_id=a%20b", "/query/merchant_id/0"),
        ("merchant_id=a&merchant_id=", "/query/merchant_id/1"),
        (urlencode([("order_id", "o")] * 501), "/query/order_id"),
        ("status=" + "s" * 33, "/query/status/0"),
        ("merchant_id=%ff", "/query"),
    ],
)
def test_a_parameter_that_is_not_valid_is_named(query: str, pointer: str) -> None:
    with pytest.raises(Refusal) as refused:
        event_stream_request(query, "")
    problem = refused.value.problem
    assert problem is not None
    assert problem.slug == "validation-failed"
    assert [error["pointer"] for error in parameter_problem(problem).members["errors"]] == [pointer]


@given(st.text(alphabet=st.characters(max_codepoint=127)), texts)
def test_any_query_is_a_request_or_refused(query: str, last_event_id: str) -> None:
    problem = None
    try:
        assert isinstance(event_stream_request(query, last_event_id), Subscribe)
    except Refusal as refusal:
        problem = refusal.problem
    assert problem is None or 1 <= len(parameter_problem(problem).members["errors"]) <= 20


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ([], False),
        (["*/*"], False),
        (["text/*"], False),
        (["text/event-stream"], True),
        (["Text/Event-Stream"], True),
        (["text/html, text/event-stream;q=0.5"], True),
        (["application/json", "text/event-stream"], True),
        (["text/event-stream; charset=utf-8"], True),
        (["text/event-stream;q=0"], False),
        (["text/event-stream; q=0.000"], False),
        (["text/event-stream;q=0.001"], True),
    ],
)
def test_a_stream_of_events_must_be_asked_for_by_name(accept: list[str], *, expected: bool) -> None:
    assert accepts_event_stream(accept) is expected


def test_the_cursor_of_a_resync_is_of_no_log() -> None:
    assert open_cursor(RESYNC_CURSOR, None).epoch == NO_EPOCH


def test_the_parameters_are_the_members_of_a_subscribe() -> None:
    members = (Subscribe.model_fields.keys() | FilterRequest.model_fields) - {"type", "token", "filter"}
    assert PARAMETERS.keys() == members


def test_a_message_knows_its_type() -> None:
    assert snapshot_message([], more=True) == ServerMessage(
        "snapshot", b'{"type":"snapshot","orders":[],"more":true}', None
    )
