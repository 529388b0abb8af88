"""What ingest makes of headers and bodies, before anything is sent anywhere."""

import pytest

from tracking_ingest.api.bodies import BadOperation, CreateBody, UpdateBody, parse_batch
from tracking_ingest.api.requests import MAX_BATCH_KEY_CHARACTERS, batch_key_of
from tracking_shared.contracts.identifiers import is_identifier
from tracking_shared.contracts.problems import ProblemError
from tracking_shared.http.json_bodies import parse_body
from tracking_shared.http.preferences import (
    DEFAULT_WAIT_SECONDS,
    MAX_WAIT_SECONDS,
    Preferences,
    preferences_of,
)

USUAL = Preferences(DEFAULT_WAIT_SECONDS, respond_async=False)
ASYNC = Preferences(0, respond_async=True)


def wait(seconds: float) -> Preferences:
    return Preferences(seconds, respond_async=False)


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ([], USUAL),
        ([""], USUAL),
        (["return=minimal"], USUAL),
        (["respond-async"], ASYNC),
        (["Respond-Async"], ASYNC),
        (['respond-async=""'], ASYNC),
        (["respond-async; foo=bar"], ASYNC),
        (["respond-async;foo"], ASYNC),
        (["respond-async=yes"], USUAL),
        (["wait=0"], wait(0)),
        (["wait=1"], wait(1)),
        (["WAIT = 7"], wait(7)),
        (['wait="2"'], wait(2)),
        (["wait=1; x=y"], wait(1)),
        (['wait=1;x="a, wait=9; b"'], wait(1)),
        (["wait=10"], wait(MAX_WAIT_SECONDS)),
        (["wait=60"], wait(MAX_WAIT_SECONDS)),
        (["wait=" + "9" * 5000], wait(MAX_WAIT_SECONDS)),
        (["wait=soon"], USUAL),
        (["wait=-1"], USUAL),
        (["wait=1.5"], USUAL),
        (["wait=٣"], USUAL),
        (["wait"], USUAL),
        (["wait=4, wait=5"], wait(4)),
        (["wait=4", "respond-async"], Preferences(4, respond_async=True)),
        (["respond-async, wait=4"], Preferences(4, respond_async=True)),
        (['return="wait=9, respond-async", wait=4'], wait(4)),
        (['note="a \\" b, wait=9", wait=4'], wait(4)),
        (['note="never closed, wait=9'], USUAL),
        ([",;=,,"], USUAL),
    ],
)
def test_preferences_are_read_as_the_rfc_has_them(headers: list[str], wanted: Preferences) -> None:
    assert preferences_of(headers) == wanted


def test_a_batch_may_have_a_key_of_its_own() -> None:
    assert batch_key_of([]) is None
    assert batch_key_of(["k"]) == batch_key_of(['"k"']) == "k"


def test_with_the_longest_key_of_a_batch_each_operation_still_has_an_id() -> None:
    longest = "k" * MAX_BATCH_KEY_CHARACTERS
    assert batch_key_of([longest]) == longest
    assert is_identifier(f"{longest}:999")


@pytest.mark.parametrize(
    "headers",
    [["k" * (MAX_BATCH_KEY_CHARACTERS + 1)], ["a b"], [""], ["k", "k"]],
    ids=["too long", "no identifier", "empty", "twice"],
)
def test_a_key_that_no_batch_can_have_is_refused(headers: list[str]) -> None:
    with pytest.raises(ProblemError) as refused:
        batch_key_of(headers)
    problem = refused.value.problem
    assert problem.slug == "validation-failed"
    assert [error["pointer"] for error in problem.members["errors"]] == ["/headers/idempotency-key"]


AMBIGUOUS = {
    "a number that is none": '{"status": "x", "metadata": {"a": NaN}}',
    "a number that is none, and an unknown field": '{"status": "x", "y": -Infinity}',
    "a name twice": '{"status": "x", "status": "y"}',
    "a name twice, and an unknown field": '{"status": "x", "y": 1, "y": 2}',
    "a name twice, and none of the right ones": '{"y": {"z": 1, "z": 2}}',
}


@pytest.mark.parametrize("text", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_what_is_ambiguous_is_no_json_whatever_else_is_wrong(text: str) -> None:
    with pytest.raises(ProblemError) as refused:
        parse_body(UpdateBody, text.encode())
    assert refused.value.problem.slug == "malformed-json"
    operation = f'{{"op": "update", "order_id": "o", {text[1:]}'
    (line,) = parse_batch(operation.encode(), lines=True)
    assert isinstance(line, BadOperation)
    assert line.problem.slug == "malformed-json"


@pytest.mark.parametrize("name", ["metadata", "occurred_at", "order_id"])
def test_an_optional_field_that_is_null_counts_as_not_given(name: str) -> None:
    bare = '{"merchant_id": "m", "customer": {"name": "a", "contact_ref": "b"}'
    given = parse_body(CreateBody, f'{bare}, "{name}": null}}'.encode())
    assert given == parse_body(CreateBody, f"{bare}}}".encode())
