"""What ingest makes of a merchant's references: order ids without a look-up, in requests and in batches."""

from typing import Any

import orjson
import pytest

from tracking_ingest.api.bodies import AnyOperation, BadOperation, CreateBody, CreateOperation, parse_batch
from tracking_ingest.api.requests import CommandFactory
from tracking_shared.contracts.access import Grant, Principal
from tracking_shared.contracts.commands import CreateOrder, decode_command, encode_command
from tracking_shared.contracts.problems import ProblemError
from tracking_shared.contracts.references import referenced_order_id
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.http.json_bodies import parse_body

NEW: dict[str, Any] = {"merchant_id": "acme", "customer": {"name": "Ada", "contact_ref": "crm-1"}}
ORDER_ID = referenced_order_id("acme", "WH/OUT/00012")
NAMED = {"merchant_id": "acme", "reference": "WH/OUT/00012"}


def factory(**grant: Any) -> CommandFactory:
    grant = {"merchants": frozenset({"acme"})} | grant
    principal = Principal(
        subject="shop",
        source_type="system",
        scopes=frozenset({"orders:write"}),
        grant=Grant(**grant),
        expires_at=0,
    )
    return CommandFactory(principal, DEFAULT_WORKFLOW, "")


def created(update_id: str = "u", **fields: Any) -> CreateOrder:
    return factory().create(parse_body(CreateBody, orjson.dumps(NEW | fields)), update_id)


def parsed(*operations: dict[str, Any], lines: bool) -> list[AnyOperation | BadOperation]:
    if lines:
        return parse_batch(b"\n".join(map(orjson.dumps, operations)), lines=True)
    return parse_batch(orjson.dumps(operations), lines=False)


def test_the_order_id_of_a_reference_depends_on_nothing_else() -> None:
    first, second = created("u-1", reference="WH/OUT/00012"), created("u-2", reference="WH/OUT/00012")
    assert first.order_id == second.order_id == ORDER_ID
    assert first.reference == "WH/OUT/00012"


def test_an_order_id_of_the_caller_stays_and_the_reference_is_stored_beside_it() -> None:
    command = created(order_id="o-1", reference="WH/OUT/00012")
    assert (command.order_id, command.reference) == ("o-1", "WH/OUT/00012")


def test_without_a_reference_the_command_and_its_fingerprint_are_as_before() -> None:
    assert b"reference" not in encode_command(created())
    assert created(reference=None).fingerprint == created().fingerprint
    assert created().order_id.startswith("o-")


def test_another_reference_is_another_request() -> None:
    fingerprints = {created(order_id="o", reference=each).fingerprint for each in (None, "1", "2")}
    assert len(fingerprints) == 3


def test_a_command_carries_the_reference_as_it_was_sent() -> None:
    command = created(reference="ä/ö ")
    assert decode_command(encode_command(command)) == command


@pytest.mark.parametrize("fields", [{}, {"reference": "WH/OUT/00013"}, {"reference": None}])
def test_nobody_takes_the_place_of_an_order_that_belongs_to_a_reference(fields: dict[str, Any]) -> None:
    with pytest.raises(ProblemError) as refused:
        created(order_id=ORDER_ID, **fields)
    assert refused.value.problem.slug == "validation-failed"
    assert [error["pointer"] for error in refused.value.problem.members["errors"]] == ["/order_id"]


def test_the_order_id_of_a_reference_may_be_given_beside_it() -> None:
    assert created(order_id=ORDER_ID, reference="WH/OUT/00012").order_id == ORDER_ID


@pytest.mark.parametrize("reference", ["", " ", "a\nb", "x" * 65, 7, ["a"]])
def test_what_is_no_reference_is_refused_by_name(reference: object) -> None:
    with pytest.raises(ProblemError) as refused:
        created(reference=reference)
    assert [error["pointer"] for error in refused.value.problem.members["errors"]] == ["/reference"]


@pytest.mark.parametrize("lines", [False, True])
def test_an_operation_may_name_its_order_by_merchant_and_reference(lines: bool) -> None:
    operations = parsed(
        {"op": "create", **NEW, "reference": "WH/OUT/00012"},
        {"op": "update", "status": "picked_up", **NAMED},
        {"op": "update", "status": "delivered", **NAMED, "order_id": None},
        {"op": "update", "status": "delivered", "order_id": "o-1", "merchant_id": None},
        lines=lines,
    )
    commands = [
        factory().operation(operation, "u")
        for operation in operations
        if not isinstance(operation, BadOperation)
    ]
    assert [command.order_id for command in commands] == [ORDER_ID] * 3 + ["o-1"]


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize(
    "named",
    [{}, {"merchant_id": "acme"}, {"reference": "1"}, NAMED | {"order_id": "o-1"}, {"order_id": None}],
    ids=["nothing", "no reference", "no merchant", "both", "null"],
)
def test_an_operation_that_names_no_order_or_two_is_refused(named: dict[str, Any], lines: bool) -> None:
    good = {"op": "update", "status": "picked_up", "order_id": "o-2"}
    bad, other = parsed({"op": "update", "status": "picked_up"} | named, good, lines=lines)
    assert isinstance(bad, BadOperation)
    assert not isinstance(other, BadOperation)
    [error] = bad.problem.members["errors"]
    assert error == {
        "pointer": "",
        "message": "must have an order_id, or else a merchant_id and a reference",
    }


def test_a_bad_operation_is_shown_with_the_order_that_it_names() -> None:
    [bad] = parsed({"op": "update", "colour": "red", "update_id": "u", **NAMED}, lines=True)
    assert isinstance(bad, BadOperation)
    assert (bad.update_id, bad.order_id) == ("u", ORDER_ID)
    [bad] = parsed({"op": "update", "order_id": "a b", **NAMED}, lines=True)
    assert isinstance(bad, BadOperation)
    assert bad.order_id is None


def test_a_refused_operation_is_shown_with_the_order_that_it_names() -> None:
    [create, update] = parsed(
        {"op": "create", **NEW, "reference": "WH/OUT/00012"},
        {"op": "update", "status": "picked_up", **NAMED},
        lines=True,
    )
    assert isinstance(create, CreateOperation)
    assert not isinstance(update, BadOperation)
    assert factory().order_id_of(create, "u") == factory().order_id_of(update, "u") == ORDER_ID


def test_a_token_for_single_orders_reaches_the_derived_id() -> None:
    narrow = factory(orders=frozenset({ORDER_ID}))
    [update, other] = parsed(
        {"op": "update", "status": "picked_up", **NAMED},
        {"op": "update", "status": "picked_up", "merchant_id": "acme", "reference": "2"},
        lines=True,
    )
    assert not isinstance(update, BadOperation)
    assert not isinstance(other, BadOperation)
    assert narrow.operation(update, "u").order_id == ORDER_ID
    with pytest.raises(ProblemError) as refused:
        narrow.operation(other, "u")
    assert refused.value.problem.slug == "order-not-found"
