"""Operations of the Python client, and the queues that keep them in the order of their orders."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tracking_client
from tracking_client.json_text import decode, encode
from tracking_client.operations import checkpoint, correct, create, referenced_order_id, update
from tracking_client.order_queues import OrderQueues
from tracking_ingest.api.bodies import BadOperation, parse_batch
from tracking_shared.contracts import references

NOON = datetime(2026, 3, 2, 12, tzinfo=timezone(timedelta(hours=1)))


def test_ingest_reads_every_kind_of_operation_with_all_its_members() -> None:
    named = {"occurred_at": NOON, "metadata": {"van": "B-17"}, "update_id": "u-1"}
    operations = [
        create(
            "o-1", merchant_id="acme", name="Ada", contact_ref="crm:1", reference="#1", due_at=NOON, **named
        ),
        create(merchant_id="acme", name="Ada", contact_ref="crm:1"),
        update("o-1", "picked_up", expected_version=1, **named),
        update(merchant_id="acme", reference="#1", status="picked_up"),
        checkpoint("o-1", "delayed", message="snow", eta=NOON, due_at=NOON, expected_version=2, **named),
        correct("o-1", "created", reason="wrong order", expected_version=3, **named),
    ]
    parsed = parse_batch(encode([dict(operation.document) for operation in operations]), lines=False)
    assert not [each for each in parsed if isinstance(each, BadOperation)]
    assert [each.update_id for each in parsed] == [operation.update_id for operation in operations]


def test_an_update_id_is_made_once_and_differs() -> None:
    first, second = update("o-1", "picked_up"), update("o-1", "picked_up")
    assert first.update_id == first.update_id != second.update_id


def test_a_time_without_an_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="has no offset"):
        update("o-1", "picked_up", occurred_at=datetime(2026, 3, 2))  # noqa: DTZ001 - the fault
    moment = datetime(2026, 3, 2, tzinfo=UTC)
    assert update("o-1", "picked_up", occurred_at=moment).document["occurred_at"].endswith("+00:00")


@given(st.text("ab#/ä", min_size=1, max_size=8), st.text("acme-1", min_size=1, max_size=8))
def test_a_reference_and_its_order_id_have_the_same_key(reference: str, merchant_id: str) -> None:
    derived = references.referenced_order_id(merchant_id, reference)
    assert referenced_order_id(merchant_id, reference) == derived
    by_reference = update(merchant_id=merchant_id, reference=reference, status="picked_up")
    assert by_reference.order_key == update(derived, "picked_up").order_key


@dataclass(frozen=True)
class Entry:
    order_key: str
    number: int
    size: int = 1


ACTIONS = st.tuples(st.sampled_from(("add", "take", "finish")), st.integers(1, 3), st.integers(0, 3))


@given(st.lists(ACTIONS, max_size=40), st.lists(st.sampled_from("abc"), max_size=20))
def test_entries_of_an_order_are_taken_in_order_and_one_at_a_time(
    actions: list[tuple[str, int, int]], keys: list[str]
) -> None:
    queues: OrderQueues[Entry] = OrderQueues()
    waiting = [Entry(key, number) for number, key in enumerate(keys)]
    taken: list[Entry] = []
    in_hand: list[Entry] = []
    to_the_end = [("add", 1, 0)] * len(keys) + [("take", 3, 3), ("finish", 1, 0)] * 3 * len(keys)
    for action, number, size in (*actions, *to_the_end):
        if action == "add" and waiting:
            queues.add(waiting.pop(0))
        elif action == "take":
            batch = queues.take(number, size)
            assert len(batch) <= number
            in_hand += batch
            taken += batch
            assert len({entry.order_key for entry in in_hand}) == len(in_hand)
        elif action == "finish" and in_hand:
            queues.done(in_hand.pop(number % len(in_hand)).order_key)
    for key in "abc":
        numbers = [entry.number for entry in taken if entry.order_key == key]
        assert numbers == [number for number, each in enumerate(keys) if each == key]
    assert not queues.has_ready
    assert queues.clear() == []


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "[" * 100_000, b"\xff", "{"])
def test_what_is_not_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(text)


def test_every_public_name_can_be_imported() -> None:
    for name in tracking_client.__all__:
        assert getattr(tracking_client, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tracking_client.nothing


def test_a_change_of_status_without_one_is_refused_where_it_is_made() -> None:
    with pytest.raises(TypeError, match="status is required"):
        update("o-1")
    with pytest.raises(TypeError, match="status is required"):
        correct("o-1", reason="a scan was missing")
    assert update(merchant_id="acme", reference="#1", status="picked_up").document["status"] == "picked_up"
