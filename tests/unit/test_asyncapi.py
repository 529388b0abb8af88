"""The AsyncAPI document: valid, current, whole, and of one mind with the code that reads and writes."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft7Validator
from notifier_samples import History
from pages import ROOT, blocks, read, section, tables

from builders import create_command, update_command
from message_checks import check_event, check_message, faults_of
from tracking_client.order_view import order_after
from tracking_notifier.errors import Refusal
from tracking_notifier.stream.events import decode_events
from tracking_notifier.stream.stream_asyncapi import CLOSE_CODES, encoded_document
from tracking_notifier.stream.stream_messages import (
    events_message,
    live_message,
    parse_client_message,
    problem_message,
    resync_message,
    snapshot_message,
)
from tracking_shared.contracts.access import Grant
from tracking_shared.contracts.commands import (
    UndecodableMessage,
    decode_commands,
    decode_replies,
    encode_command,
    join_commands,
)
from tracking_shared.contracts.messages import cloud_event, order_view
from tracking_shared.contracts.problems import CATALOGUE, Problem, validation_problem
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.messaging.topology import COMMANDS_EXCHANGE, EVENTS_EXCHANGE, partition_queue

DOCUMENT = json.loads(read("docs/asyncapi.json"))


def test_the_page_is_generated_from_the_models() -> None:
    assert (ROOT / "docs/asyncapi.json").read_bytes() == encoded_document(), "run `make docs`"


def test_it_follows_the_specification() -> None:
    schema = json.loads(read("tests/data/asyncapi-spec/asyncapi-3.0.0.json"))
    errors = Draft7Validator(schema).iter_errors(DOCUMENT)
    assert [f"{error.instance_path}: {error.message}" for error in errors] == []


def test_every_reference_leads_somewhere() -> None:
    found = list(references(DOCUMENT))
    assert len(found) > 50
    for reference in found:
        part: Any = DOCUMENT
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]


def references(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for item in part:
            yield from references(item)
    elif isinstance(part, dict):
        if "$ref" in part:
            assert len(part) == 1, f"draft 7 does not see what stands beside a reference: {part}"
            yield part["$ref"]
        for item in part.values():
            yield from references(item)


def test_no_schema_has_what_asyncapi_reads_otherwise() -> None:
    text = json.dumps(DOCUMENT)
    assert "discriminator" not in text
    assert "$defs" not in text


def test_every_message_is_sent_or_received_by_somebody() -> None:
    used = {
        reference["$ref"].rsplit("/", 1)[1]
        for operation in DOCUMENT["operations"].values()
        for reference in operation["messages"] + operation.get("reply", {}).get("messages", [])
    }
    assert used == DOCUMENT["components"]["messages"].keys()


def test_the_channels_are_those_of_the_broker() -> None:
    commands, events = (DOCUMENT["channels"][name]["bindings"]["amqp"] for name in ("commands", "events"))
    assert commands["exchange"]["name"] == COMMANDS_EXCHANGE
    assert commands["x-queue-arguments"] == partition_queue(3).arguments
    assert events["exchange"]["name"] == EVENTS_EXCHANGE
    channel = DOCUMENT["channels"]["commands"]
    assert channel["address"].format(partition=3) == partition_queue(3).routing_key
    assert partition_queue(3).name.replace("3", "{partition}") in channel["description"]


def test_the_close_codes_are_those_of_the_page() -> None:
    rows = tables(section(read("docs/live-updates.md"), "## Close codes and reconnection"))[0]
    documented = [(int(row["code"]), row["meaning"], row["what to do"]) for row in rows]
    assert documented == [(code.code, code.meaning, code.advice) for code in CLOSE_CODES]
    assert all(code.reconnect == ("reconnect" in code.advice) for code in CLOSE_CODES)


def test_the_examples_of_the_page_are_as_described() -> None:
    subscribe, order, event = map(orjson.loads, blocks(read("docs/live-updates.md"), "json"))
    check_message("subscribe", subscribe)
    check_message("snapshot", {"type": "snapshot", "orders": [order], "more": False})
    check_event(event)
    assert order_after(event) == order


@pytest.mark.parametrize("slug", CATALOGUE)
def test_every_problem_may_be_told(slug: str) -> None:
    problem = Problem(slug, "Because.", {"version": 3})
    check_message("problem", orjson.loads(problem_message(problem, 32 * "0").body))


def test_what_the_server_encodes_is_as_described() -> None:
    history = History()
    events = [history.apply("o-1", status) for status in ("created", "picked_up")]
    orders = [
        orjson.dumps(order_view(history.orders["o-1"], DEFAULT_WORKFLOW, with_customer=shown))
        for shown in (True, False)
    ]
    encoded = [event.encoded(with_customer=shown) for event in events for shown in (True, False)]
    refused = validation_problem([{"pointer": "/filter/status", "message": "must be …"}])
    for name, message in (
        ("events", events_message(encoded, "abc")),
        ("snapshot", snapshot_message(orders, more=True)),
        ("snapshot", snapshot_message([], more=False)),
        ("live", live_message("abc")),
        ("resync", resync_message("too-slow", "abc")),
        ("problem", problem_message(refused, 32 * "0")),
    ):
        check_message(name, orjson.loads(message.body))


def test_the_checks_of_messages_notice_what_is_wrong() -> None:
    event = orjson.loads(History().apply("o-1", "created").full)
    for damage in (
        {"extra": 1},
        {"sequence": "17"},
        {"time": "2026-11-22T08:15:00Z"},
        {"time": "2026-13-22T08:15:00.000Z"},
        {"type": "order.moved"},
        {"data": {name: value for name, value in event["data"].items() if name != "order_metadata"}},
        {"data": event["data"] | {"colour": "red"}},
        {"data": event["data"] | {"source": {"type": "robot", "id": "r"}}},
        {"data": event["data"] | {"customer": {"name": "A", "contact_ref": "b", "age": 7}}},
    ):
        assert faults_of("announcedEvents", [event | damage]), damage
    assert faults_of("announcedEvents", [event]) == []


_ODD = st.none() | st.booleans() | st.integers(0, 1) | st.sampled_from(["", "-", "x" * 40]) | st.just([])


def mostly(*right: Any) -> st.SearchStrategy[Any]:
    return st.integers(0, 9).flatmap(lambda luck: st.sampled_from(right) if luck else _ODD)


def client_messages() -> st.SearchStrategy[dict[str, Any]]:
    """Messages of clients; in about half of them something may be wrong."""
    names = mostly(["acme"], ["acme", "zeta"], None)
    wanted = st.fixed_dictionaries(
        {},
        optional={"merchant_id": names, "order_id": names, "status": names, "active": mostly(True, None)},
    )
    message = st.fixed_dictionaries(
        {"type": mostly("subscribe", "subscribe", "refresh")},
        optional={
            "token": mostly("t"),
            "filter": wanted | mostly({}, {"colour": ["red"]}),
            "after": mostly("c"),
            "snapshot": mostly(True, False),
        },
    )
    return st.builds(lambda known, more: known | more, message, st.sampled_from([{}, {}, {}, {"x": 1}]))


@given(client_messages())
def test_the_document_accepts_what_the_notifier_accepts(message: dict[str, Any]) -> None:
    try:
        parse_client_message(orjson.dumps(message))
        accepted = True
    except Refusal:
        accepted = False
    described = not faults_of("subscribe", message) or not faults_of("refresh", message)
    assert described == accepted


COMMANDS = {
    "create": create_command(),
    "create with everything": create_command(
        occurred_at=datetime(2026, 3, 1, tzinfo=UTC),
        metadata={"a": [1, {"b": None}]},
        traceparent="00-" + 32 * "1" + "-" + 16 * "2" + "-01",
    ),
    "update": update_command(),
    "update of a narrow token": update_command(
        grant=Grant(merchants=frozenset({"m-1"}), orders=frozenset({"o-1"})), expected_version=3
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_as_described(name: str) -> None:
    body = join_commands([encode_command(COMMANDS[name])])
    check_message("commands", orjson.loads(body))


def test_the_document_refuses_what_order_state_refuses() -> None:
    command = orjson.loads(encode_command(create_command()))
    for damage in (
        {"op": "explode"},
        {"op": None},
        {"order_id": "-"},
        {"received_at": "yesterday"},
        {"source": {"type": "robot", "id": "r"}},
        {"customer": {"name": "A"}},
        {"grant": {"merchants": 3}},
    ):
        batch = [command | damage]
        assert faults_of("commands", batch), damage
        with pytest.raises(UndecodableMessage):
            decode_commands(orjson.dumps(batch))
    untold = {name: value for name, value in command.items() if name != "op"}
    for batch in ([], [command] * 501, [untold], command):
        assert faults_of("commands", batch)
        with pytest.raises(UndecodableMessage):
            decode_commands(orjson.dumps(batch))


def with_unknown_member(body: bytes) -> bytes:
    """The messages of a batch with a member that a later release may add."""
    return orjson.dumps([document | {"priority": 1} for document in orjson.loads(body)])


def test_unknown_members_are_kept_in_commands_ignored_in_events_and_replies_and_refused_in_requests() -> None:
    """As the description of the document says."""
    history = History()
    history.apply("o-0", "created")
    events = [cloud_event(event, DEFAULT_WORKFLOW) for log in history.log for event in log]
    [event] = decode_events(with_unknown_member(orjson.dumps(events)), DEFAULT_WORKFLOW)
    assert event.order_id == "o-0"
    [reply] = decode_replies(with_unknown_member(b'[{"message_id": "m-1", "outcomes": []}]'))
    assert reply["message_id"] == "m-1"
    [command] = decode_commands(with_unknown_member(join_commands([encode_command(create_command())])))
    assert orjson.loads(encode_command(command))["priority"] == 1
    with pytest.raises(Refusal):
        parse_client_message(b'{"type": "subscribe", "priority": 1}')
