"""Format versions: how documents and messages of other releases are read."""

from typing import Any

import orjson
import pytest

from builders import create_command, update_command
from tracking_notifier.errors import UndecodableEvents
from tracking_notifier.stream.events import decode_events
from tracking_order_state.processing.upgrade_wait import MAX_RETURNS, seconds_to_wait
from tracking_shared.contracts.commands import (
    UndecodableMessage,
    UndecodableReplies,
    decode_command,
    decode_commands,
    decode_replies,
    encode_command,
    join_commands,
)
from tracking_shared.contracts.formats import (
    COMMANDS,
    DOCUMENTS,
    EVENTS,
    FORMAT,
    ORDERS,
    REPLIES,
    Format,
    InvalidFormat,
    NewerFormat,
    is_newer,
    message_headers,
    message_version,
    stamped,
    upcast,
    upcast_all,
    upcast_items,
)
from tracking_shared.contracts.timestamps import now
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.http.outcome_answers import outcome_view
from tracking_shared.messaging.consumer import NewerMessage
from tracking_shared.messaging.topology import DELIVERY_LIMIT
from tracking_shared.storage.database import INDEXES, DatabaseUnavailable, driver_errors

INVALID: list[Any] = [0, -1, "1", 1.5, None, True, [1]]


def renamed(document: dict[str, Any]) -> dict[str, Any]:
    return {"full_name": document["name"]}


def split(document: dict[str, Any]) -> dict[str, Any]:
    return {"names": document["full_name"].split()}


PERSON = Format("person", written=2, upcasts=(renamed, split))
"""This release reads three versions, and writes the second, which the release before reads."""


@pytest.mark.parametrize(
    "document",
    [{"name": "Ada Byron"}, {FORMAT: 1, "name": "Ada Byron"}, {FORMAT: 2, "full_name": "Ada Byron"}],
)
def test_a_document_goes_through_the_rest_of_the_chain(document: dict[str, Any]) -> None:
    before = dict(document)
    assert upcast(PERSON, document) == {"names": ["Ada", "Byron"]}
    assert document == before


def test_a_document_in_the_newest_format_is_only_told_apart_from_its_version() -> None:
    assert upcast(PERSON, {FORMAT: 3, "names": []}) == {"names": []}
    order = {"_id": "o-1"}
    assert upcast(ORDERS, order) is order
    assert upcast(ORDERS, order | {FORMAT: 1}) == order


def test_a_document_of_a_later_release_is_not_read() -> None:
    with pytest.raises(NewerFormat, match="person of format 4, this release reads up to 3"):
        upcast(PERSON, {FORMAT: 4})
    with pytest.raises(NewerFormat):
        upcast_all(ORDERS, [{}, {FORMAT: 2}])


@pytest.mark.parametrize("version", INVALID, ids=repr)
def test_what_is_no_version_is_refused(version: object) -> None:
    with pytest.raises(InvalidFormat):
        upcast(PERSON, {FORMAT: version})
    assert not is_newer(PERSON, {FORMAT: version})


def test_a_document_that_cannot_be_read_is_one_that_cannot_be_had_now() -> None:
    with pytest.raises(DatabaseUnavailable, match="orders of format 2"), driver_errors():
        upcast(ORDERS, {FORMAT: 2})


def test_a_document_is_written_in_the_format_that_the_release_before_reads() -> None:
    assert stamped(PERSON, {"full_name": "Ada"}) == {FORMAT: 2, "full_name": "Ada"}
    order = {"_id": "o-1"}
    assert stamped(ORDERS, order) is order


def test_a_message_says_its_format_beside_its_other_headers() -> None:
    assert message_headers(PERSON, {"traceparent": "t"}) == {"traceparent": "t", FORMAT: 2}
    assert message_headers(COMMANDS) == {FORMAT: 1}
    items = upcast_items(PERSON, [{"full_name": "A B"}], message_version(PERSON, {FORMAT: 2}))
    assert items == [{"names": ["A", "B"]}]


@pytest.mark.parametrize("form", [COMMANDS, REPLIES, EVENTS, *DOCUMENTS.values()], ids=lambda f: f.kind)
def test_nothing_is_written_in_a_format_that_is_not_read(form: Format) -> None:
    assert 1 <= form.written <= form.newest


def test_the_documents_with_versions_are_those_of_collections() -> None:
    assert DOCUMENTS.keys() <= INDEXES.keys()


def test_a_message_without_a_version_is_of_the_first_one() -> None:
    body = join_commands([encode_command(create_command()), encode_command(update_command())])
    assert decode_commands(body, {}) == decode_commands(body, {FORMAT: 1}) == decode_commands(body)


@pytest.mark.parametrize("version", [one for one in INVALID if one is not True], ids=repr)
def test_a_message_whose_version_is_none_is_garbage(version: object) -> None:
    body = join_commands([encode_command(create_command())])
    with pytest.raises(UndecodableMessage):
        decode_commands(body, {FORMAT: version})
    with pytest.raises(UndecodableReplies):
        decode_replies(b"[]", {FORMAT: version})
    with pytest.raises(UndecodableEvents):
        decode_events(b"[]", DEFAULT_WORKFLOW, {FORMAT: version})


def test_a_message_of_a_later_release_is_none_of_ours() -> None:
    with pytest.raises(NewerFormat):
        decode_commands(b"what it is like nobody knows", {FORMAT: 2})
    with pytest.raises(UndecodableReplies):
        decode_replies(b"[]", {FORMAT: 2})
    with pytest.raises(UndecodableEvents):
        decode_events(b"[]", DEFAULT_WORKFLOW, {FORMAT: 2})


def test_what_a_later_release_has_added_to_a_command_is_kept() -> None:
    added: Any = orjson.loads(encode_command(create_command())) | {"priority": 1}
    added["customer"]["salutation"] = "Dr"
    command = decode_command(orjson.dumps(added))
    encoded = orjson.loads(encode_command(command))
    assert encoded["priority"] == 1
    assert encoded["customer"]["salutation"] == "Dr"


def test_an_outcome_with_a_problem_of_a_later_release_is_not_known_yet_and_the_others_are() -> None:
    applied = {
        "update_id": "u-1",
        "order_id": "o-1",
        "outcome": "applied",
        "replayed": False,
        "version": 1,
        "order": None,
        "problem": None,
    }
    refused = applied | {"outcome": "rejected", "problem": {"slug": "order-evaporated"}}
    body = orjson.dumps([{"message_id": "m-1", "outcomes": [applied, refused, None]}])
    [reply] = decode_replies(body)
    assert reply["outcomes"] == [applied, None, None]
    stored: Any = refused | {"recorded_at": now()}
    stored["problem"] |= {"detail": "", "members": {}}
    with pytest.raises(DatabaseUnavailable, match="order-evaporated"):
        outcome_view(stored, None)


def test_what_restricts_a_grant_is_never_overlooked() -> None:
    restricted: Any = orjson.loads(encode_command(create_command()))
    restricted["grant"]["regions"] = ["north"]
    with pytest.raises(UndecodableMessage):
        decode_command(orjson.dumps(restricted))


def test_giving_up_a_partition_uses_a_part_of_the_delivery_limit() -> None:
    waits = [seconds_to_wait(NewerMessage(2, returns)) for returns in range(MAX_RETURNS + 1)]
    assert waits[:3] == [5, 10, 20]
    assert waits[-1] == float("inf")
    assert sum(waits[:-1]) < 3 * 3600
    assert MAX_RETURNS * 4 < DELIVERY_LIMIT
