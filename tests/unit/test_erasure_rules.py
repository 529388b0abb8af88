"""The rules of erasures: whom they concern, what the events say, and which commands lose their customer."""

import unicodedata
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import TIME, create_command, update_command
from tracking.upkeep.checker import Records, find_faults
from tracking_order_state.domain.batch import decide_batch
from tracking_order_state.domain.decisions import Known
from tracking_order_state.domain.erased_letters import REMOVED, erase_letter
from tracking_order_state.domain.erasure import (
    MAX_ERASED_EVENTS,
    ErasedContacts,
    Erasure,
    contact_key,
    erase,
    erase_parked,
    fitting,
)
from tracking_order_state.domain.overdue import is_reserved
from tracking_order_state.domain.parking import park
from tracking_order_state.domain.partition import NOTHING_PARKED, PartitionPosition, Slot
from tracking_shared.contracts.commands import (
    Command,
    CreateOrder,
    Customer,
    decode_command,
    decode_commands,
    encode_command,
    join_commands,
)
from tracking_shared.contracts.documents import ErasureDocument, EventDocument, project
from tracking_shared.contracts.messages import cloud_event
from tracking_shared.contracts.texts import canonical_forms, words_of_event
from tracking_shared.contracts.timestamps import format_time
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

KEY = b"k" * 32
SECOND = timedelta(seconds=1)
LATER = TIME + SECOND


def erasure_of(contact_ref: str = "crm-1", merchant_id: str | None = None, at: datetime = LATER) -> Erasure:
    return Erasure("e1", canonical_forms(contact_ref), merchant_id, at, at + SECOND)


def document_of(contact_ref: str = "crm-1", merchant_id: str | None = None, **fields: Any) -> ErasureDocument:
    document: Any = {
        "_id": "e1",
        "merchant_id": merchant_id,
        "accepted_at": LATER,
        "expires_at": LATER,
        "open": True,
        "contact_refs": canonical_forms(contact_ref),
    }
    return document | fields  # type: ignore[no-any-return]


def done(document: ErasureDocument) -> ErasureDocument:
    """As it is stored once it is carried out."""
    digest = contact_key(KEY, document["contact_refs"][0])
    kept: Any = {name: value for name, value in document.items() if name not in ("contact_refs", "open")}
    return kept | {"contact_key": digest}  # type: ignore[no-any-return]


def history(*commands: Command) -> list[EventDocument]:
    """The events of commands for one order in partition 0."""
    made = decide_batch(
        commands,  # type: ignore[arg-type]
        Known({}, {}, {}),
        partition=0,
        seq=0,
        time=TIME,
        workflow=DEFAULT_WORKFLOW,
    )
    assert len(made.events) == len(commands)
    return made.events


def erased_history(events: list[EventDocument]) -> list[EventDocument]:
    """The history once its customer is erased."""
    erasure = erasure_of()
    position = PartitionPosition(0, len(events), 0, NOTHING_PARKED)
    decided = erase(erasure, [project(events[-1])], [one["_id"] for one in events], position, time=LATER)
    rewritten: list[Any] = [one | {"customer": None, "erased_at": erasure.accepted_at} for one in events]
    return [*rewritten, *decided.events]


@pytest.mark.parametrize("is_done", [False, True])
def test_a_create_that_was_received_before_the_erasure_and_is_decided_later_holds_no_customer(
    is_done: bool,
) -> None:
    document = document_of()
    erased = ErasedContacts.of(KEY, [done(document) if is_done else document])
    [before, later, other] = erased.apply(
        [
            create_command(received_at=LATER),
            create_command(received_at=LATER + SECOND),
            create_command(customer=Customer(name="Eve", contact_ref="crm-2")),
        ]
    )
    assert isinstance(before, CreateOrder)
    assert (before.customer, before.erased_at) == (None, LATER)
    assert all(isinstance(one, CreateOrder) and one.customer is not None for one in (later, other))
    [event] = history(before)
    assert (event["customer"], event["erased_at"]) == (None, LATER)
    assert project(event)["erased_at"] == LATER


def test_an_erasure_of_one_merchant_leaves_the_orders_of_another() -> None:
    erased = ErasedContacts.of(KEY, [document_of(merchant_id="m-1")])
    [own, foreign] = erased.apply([create_command(), create_command(merchant_id="m-2")])
    assert isinstance(own, CreateOrder)
    assert isinstance(foreign, CreateOrder)
    assert own.customer is None
    assert foreign.customer is not None
    assert erasure_of(merchant_id="m-1").concerns(project(history(create_command())[0]))
    assert not erasure_of(merchant_id="m-2").concerns(project(history(create_command())[0]))


def test_an_owner_that_learns_one_more_erasure_knows_that_and_those_from_before() -> None:
    earlier = ErasedContacts.of(KEY, [done(document_of("crm-2"))])
    erased = earlier.with_erasure(erasure_of()).with_erasure(erasure_of(at=LATER + SECOND))
    customers = [Customer(name="Eve", contact_ref=contact_ref) for contact_ref in ("crm-1", "crm-2", "crm-3")]
    found = erased.apply([create_command(customer=customer) for customer in customers])
    assert [isinstance(one, CreateOrder) and one.customer for one in found] == [None, None, customers[2]]
    assert isinstance(found[0], CreateOrder)
    assert found[0].erased_at == LATER  # of two that concern it the first


def test_of_two_reads_the_older_one_takes_nothing_back() -> None:
    newer = ErasedContacts.of(KEY, [document_of()])
    merged = newer.with_more(ErasedContacts())
    [command] = merged.apply([create_command()])
    assert isinstance(command, CreateOrder)
    assert command.customer is None


@given(st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()))
def test_a_contact_is_recognised_however_it_was_written_down(contact_ref: str) -> None:
    for form in ("NFC", "NFD"):
        written = unicodedata.normalize(form, contact_ref)  # type: ignore[arg-type]
        assert contact_key(KEY, written) == contact_key(KEY, contact_ref)


@given(st.integers(0, 3), st.booleans())
def test_an_erased_order_folds_and_keeps_everything_but_its_customer(steps: int, has_due_time: bool) -> None:
    fields: dict[str, Any] = {"due_at": TIME} if has_due_time else {}
    statuses = ("picked_up", "in_transit", "delivered")[:steps]
    events = history(create_command(**fields), *(update_command(status=status) for status in statuses))
    before, erased = project(events[-1]), erased_history(events)
    after = project(erased[-1])
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed <= {"customer", "erased_at", "version", "updated_at", "source", "closing"}
    assert after["version"] == before["version"] + 1
    if not after["active"]:
        assert after["closing"]["at"] == before["updated_at"]
    partition: Any = {
        "_id": 0,
        "seq": len(erased),
        "commits": 1,
        "worker": "w",
        "epoch": "e",
        "parked": [],
        "horizon": TIME,
    }
    assert find_faults(Records([after], erased, [], [partition])) == []
    broken: Any = [*erased[:-1], erased[-1] | {"customer": events[0]["customer"]}]
    assert find_faults(Records([after], broken, [], [partition]))


def test_updates_of_an_erased_order_leave_it_erased() -> None:
    erased = erased_history(history(create_command()))
    order = project(erased[-1])
    made = decide_batch(
        [update_command()],
        Known({"o-1": order}, {}, {}),
        partition=0,
        seq=2,
        time=LATER,
        workflow=DEFAULT_WORKFLOW,
    )
    [event] = made.events
    assert (event["customer"], event["erased_at"]) == (None, LATER)


def test_the_event_says_null_and_when() -> None:
    [first, last] = (cloud_event(one, DEFAULT_WORKFLOW) for one in erased_history(history(create_command())))
    assert (first["type"], last["type"]) == ("order.created", "order.customer_erased")
    for event in (first, last):
        assert (event["data"]["customer"], event["data"]["erased_at"]) == (None, format_time(LATER))


def test_an_erased_order_is_found_by_everything_but_its_customer() -> None:
    [first, _] = erased_history(history(create_command()))
    assert words_of_event(first) == ["o-1", "m-1", "shop"]


def test_a_repeat_of_the_create_of_an_erased_order_is_a_duplicate() -> None:
    create = create_command()
    erased = erased_history(history(create))
    known = Known({"o-1": project(erased[-1])}, {erased[0]["update_key"]: erased[0]}, {})
    [outcome] = decide_batch(
        [create], known, partition=0, seq=2, time=LATER, workflow=DEFAULT_WORKFLOW
    ).outcomes
    assert outcome is not None
    assert (outcome["outcome"], outcome["replayed"]) == ("applied", True)
    assert outcome["order"] is not None
    assert outcome["order"]["customer"] is None


def test_no_caller_can_use_the_update_id_of_an_erasure() -> None:
    assert is_reserved(erased_history(history(create_command()))[-1]["update_id"])


def test_a_transaction_takes_as_many_orders_as_fit_and_one_at_least() -> None:
    orders: Any = {name: {"version": MAX_ERASED_EVENTS // 2} for name in ("a", "b", "c")}
    assert fitting(["a", "b", "c"], orders)[0] == 2
    orders["a"]["version"] = 10 * MAX_ERASED_EVENTS
    assert fitting(["a", "b"], orders)[0] == 1
    assert fitting(["gone", "b"], {})[0] == 2


def test_parked_creates_lose_their_customer_and_keep_their_place() -> None:
    slot = Slot(0, 0, TIME)
    parked = park(create_command(), None, NOTHING_PARKED, slot, "E").parked
    [document] = erase_parked(erasure_of(), parked.values())
    [before] = parked.values()
    assert document == before | {"command": document["command"]}
    command = decode_command(document["command"])
    assert isinstance(command, CreateOrder)
    assert (command.customer, command.fingerprint) == (None, before["fingerprint"])
    assert erase_parked(erasure_of(), [document]) == []


def test_a_dead_letter_keeps_everything_but_the_customer() -> None:
    body = join_commands([encode_command(one) for one in (create_command(), update_command())])
    erased = erase_letter(erasure_of(), body)
    assert erased
    assert b"Ada" not in erased
    assert b"crm-1" not in erased
    create, update = decode_commands(erased)
    assert isinstance(create, CreateOrder)
    assert create.customer is None
    assert update.order_id == "o-1"
    assert erase_letter(erasure_of(), erased) is None
    assert erase_letter(erasure_of(at=TIME - SECOND), body) is None


def test_a_letter_of_another_release_is_rewritten_and_what_is_no_json_is_removed() -> None:
    command = {"op": "later", "customer": {"name": "Ada", "contact_ref": "+49 30 1"}, "more": [1]}
    erasure = erasure_of("+49 30 1")
    erased = erase_letter(erasure, orjson.dumps([command]))
    assert erased
    assert orjson.loads(erased) == [command | {"customer": None, "erased_at": format_time(LATER)}]
    assert erase_letter(erasure, orjson.dumps([command])[:-3]) == REMOVED
    assert erase_letter(erasure, b"{nonsense") is None
    assert erase_letter(erasure_of("7"), b"{7 nonsense") is None
