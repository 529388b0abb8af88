"""Values from outside, in ingest, query and notifier: what is refused, in which words, what is kept."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tracking_ingest.api.bodies import BadOperation, CreateBody, parse_batch
from tracking_ingest.api.requests import CommandFactory
from tracking_notifier.errors import Refusal
from tracking_notifier.stream.stream_messages import Subscribe, parse_client_message
from tracking_query.orders.list_query import ListParameters, list_query
from tracking_shared.contracts.access import Grant, Principal, readable_orders
from tracking_shared.contracts.commands import CreateOrder
from tracking_shared.contracts.identifiers import IDENTIFIER_RULE
from tracking_shared.contracts.problems import Problem, ProblemError
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.http.json_bodies import parse_body
from tracking_shared.http.service_app import pointer_errors

BOM = b"\xef\xbb\xbf"
NFC, NFD = "Mu\u00f1oz", "Mun\u0303oz"


def body(**fields: Any) -> bytes:
    customer = {"name": fields.pop("name", "Ada"), "contact_ref": fields.pop("contact_ref", "crm-1")}
    return json.dumps({"merchant_id": "m", "customer": customer} | fields).encode()


def faults(raw: bytes) -> list[dict[str, str]]:
    with pytest.raises(ProblemError) as refused:
        parse_body(CreateBody, raw)
    assert refused.value.problem.slug == "validation-failed"
    found: list[dict[str, str]] = refused.value.problem.members["errors"]
    return found


@pytest.mark.parametrize(
    "text", [" ", "\u200b", "\u3164", "\u2800", "\u00ad", "\u00a0 \ufeff\u202e", "\ufe0f"]
)
@pytest.mark.parametrize("name", ["name", "contact_ref"])
def test_a_name_or_contact_that_shows_nothing_is_refused(name: str, text: str) -> None:
    message = "must have a character that can be seen"
    assert faults(body(**{name: text})) == [{"pointer": f"/customer/{name}", "message": message}]
    assert parse_body(CreateBody, body(**{name: f"{text}7"}))


def create(contact_ref: str) -> CreateOrder:
    grant = Grant(merchants=["*"])
    principal = Principal(
        subject="shop", source_type="system", scopes=frozenset({"orders:write"}), grant=grant, expires_at=4e9
    )
    factory = CommandFactory(principal, DEFAULT_WORKFLOW, "0" * 32)
    return factory.create(parse_body(CreateBody, body(contact_ref=contact_ref)), "u-1")


def test_a_contact_is_kept_in_nfc_and_its_fingerprint_is_of_what_was_sent() -> None:
    assert create(NFD).customer.contact_ref == create(NFC).customer.contact_ref == NFC
    # As the release before made them: a repeat that another replica takes is the same request.
    assert create(NFC).fingerprint == "3fc28ac331240bc7db991f7a2c87ab9a"
    assert create(NFD).fingerprint == "b29ed21210cc33705da069058ba83f40"


def test_a_contact_is_bounded_in_the_form_in_which_it_is_kept() -> None:
    assert faults(body(contact_ref="\u0958" * 65))[0]["message"] == "must have at most 128 characters in NFC"


@pytest.mark.parametrize("asked", [NFC, NFD])
def test_a_customer_is_found_however_the_reference_was_typed_and_stored(asked: str) -> None:
    query = list_query(ListParameters(customer_ref=asked), readable_orders(Grant(merchants=["*"])))
    assert set(query.stages[0]["customer.contact_ref"]["$in"]) == {NFC, NFD}


def test_a_plain_reference_is_asked_for_as_before() -> None:
    query = list_query(ListParameters(customer_ref="crm:17"), readable_orders(Grant(merchants=["*"])))
    assert query.stages[0] == {"customer.contact_ref": {"$eq": "crm:17"}}


def test_a_byte_order_mark_before_json_is_ignored() -> None:
    line = body(op="create")
    assert parse_body(CreateBody, BOM + body()) == parse_body(CreateBody, body())
    assert parse_batch(BOM + b"[" + line + b"]", lines=False) == parse_batch(line, lines=True)
    assert parse_batch(BOM + line + b"\n" + BOM + line + b"\r\n" + BOM, lines=True) == [
        *parse_batch(line, lines=True),
        *parse_batch(line, lines=True),
    ]
    assert isinstance(parse_client_message(BOM + b'{"type":"subscribe"}'), Subscribe)
    with pytest.raises(ProblemError):
        parse_body(CreateBody, BOM + BOM + body())


@pytest.mark.parametrize("number", ["1e-400", "123456789012345678.9"])
def test_a_number_that_cannot_be_kept_is_named(number: str) -> None:
    raw = body(metadata={"a": "NUMBER"}).replace(b'"NUMBER"', number.encode())
    message = f"{number} is a number that cannot be kept as it is written; send it as a text"
    assert faults(raw) == [{"pointer": "", "message": message}]
    good = body(op="create")
    bad = raw[:-1] + b',"op":"create"}'
    for text, lines in ((good + b"\n" + bad, True), (b"[" + good + b"," + bad + b"]", False)):
        first, second = parse_batch(text, lines=lines)
        assert not isinstance(first, BadOperation)
        assert isinstance(second, BadOperation)
        assert second.problem.members["errors"] == [{"pointer": "", "message": message}]


def test_a_leap_second_is_taken_in_bodies_and_in_queries() -> None:
    last = datetime(2016, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    assert parse_body(CreateBody, body(occurred_at="2016-12-31T23:59:60Z")).occurred_at == last
    assert ListParameters(created_from="2017-01-01T00:59:60 01:00").created_from == last  # type: ignore[arg-type]
    assert faults(body(occurred_at="2016-12-31T22:59:60Z"))[0]["message"].startswith(
        "must not have a second 60"
    )


def refused_message(text: str) -> list[dict[str, str]]:
    with pytest.raises(Refusal) as refused:
        parse_client_message(text.encode())
    assert isinstance(refused.value.problem, Problem)
    found: list[dict[str, str]] = refused.value.problem.members["errors"]
    return found


def test_the_same_rule_is_told_in_the_same_words_everywhere() -> None:
    rule = f"must be {IDENTIFIER_RULE}"
    assert IDENTIFIER_RULE == "1 to 64 of letters, digits and . _ : -, a letter or digit first"
    assert faults(body(order_id="a b")) == [{"pointer": "/order_id", "message": rule}]
    subscribe = '{"type":"subscribe","filter":{"order_id":["a b"]}}'
    assert refused_message(subscribe) == [{"pointer": "/filter/order_id/0", "message": rule}]
    with pytest.raises(ValidationError) as refused:
        ListParameters(merchant_id=["a b"])
    assert pointer_errors(refused.value) == [{"pointer": "/merchant_id/0", "message": rule}]


HOSTILE: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=70)
    | st.sampled_from(["a\0", "2026-02-30T00:00:00Z"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    [*("name", "contact_ref", "order_id", "merchant_id", "occurred_at", "metadata", "update_id"), "x"]
)


@given(st.dictionaries(FIELDS, HOSTILE, min_size=1))
def test_no_message_shows_a_pattern_or_speaks_the_validators_words(fields: dict[str, Any]) -> None:
    try:
        parse_body(CreateBody, body(**fields))
    except ProblemError as refused:
        for error in refused.problem.members.get("errors", []):
            assert not error["message"].startswith("Value error")
            assert "pattern" not in error["message"]
