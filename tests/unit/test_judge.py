"""The judge of streams is judged: it acquits what is right, and names each fault that is seeded."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import zip_longest
from random import Random
from typing import Any

import pytest
from notifier_samples import History as Samples
from notifier_samples import merchant_of

from judge import History, Record, Sighting, faults_of, history_of, orders_due
from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.documents import EventDocument
from viewers import EVERYBODY, Viewer, random_viewers

LIVES = {
    "o-0": ("created", "picked_up", "in_transit", "in_transit", "delivered"),
    "o-3": ("created", "cancelled"),
    "o-2": ("created", "picked_up"),
}
"""The first two are acme's, the third is zeta's."""

MERCHANT_OF = {order_id: merchant_of(order_id) for order_id in LIVES}

OPERATOR = Viewer("operator-1", EVERYBODY, None, {"active": True})
CUSTOMER = Viewer("customer-1", (), ("o-0",), {})


@pytest.fixture
def history() -> History:
    """All orders in one partition, one event of each in turn."""
    samples = Samples(partitions=1)
    for statuses in zip_longest(*LIVES.values()):
        for order_id, status in zip(LIVES, statuses, strict=True):
            if status is not None:
                samples.apply(order_id, status)
    return history_of(samples.log[0])


def log_of(history: History) -> list[EventDocument]:
    return sorted((event for events in history.values() for event in events), key=lambda event: event["seq"])


def ideal(viewer: Viewer, history: History, since: int, ahead: int = 0) -> Record:
    """What a viewer is sent who comes when the log ends at `since`. Its snapshot is read `ahead` later."""
    log = log_of(history)
    read = {event["order_id"]: event for event in log[: since + ahead]}
    snapshot = {
        order_id: event["version"]
        for order_id, event in read.items()
        if viewer.covers(order_id, event["merchant_id"]) and viewer.lists(event["status"])
    }
    events = [e for e in log[since:] if viewer.is_due(e) and e["version"] > snapshot.get(e["order_id"], 0)]
    return Record(
        [Sighting(name, version, viewer.is_shown_customers) for name, version in snapshot.items()],
        Position("e", (since + ahead,)),
        [Sighting(e["order_id"], e["version"], viewer.is_shown_customers) for e in events],
    )


def kinds(viewer: Viewer, record: Record, history: History) -> Mapping[str, int]:
    return Counter(fault.kind for fault in faults_of(viewer, record, history))


def test_what_is_right_is_acquitted_whoever_watches_and_whenever_they_come(history: History) -> None:
    end = len(log_of(history))
    for viewer in [OPERATOR, CUSTOMER, *random_viewers(200, MERCHANT_OF, Random(1))]:
        for since in range(end + 1):
            for ahead in range(end + 1 - since):
                record = ideal(viewer, history, since, ahead)
                assert list(faults_of(viewer, record, history)) == [], (viewer, since, ahead)


def without(index: int) -> Callable[[list[Sighting]], Iterable[Sighting]]:
    return lambda events: [event for event in events if event is not events[index]]


SEEDED: dict[str, tuple[Callable[[list[Sighting]], Iterable[Sighting]], dict[str, int]]] = {
    "the first is missing": (without(0), {"lost": 1}),
    "one in the middle is missing": (without(2), {"lost": 1}),
    "the last is missing": (without(-1), {"lost": 1}),
    "all are missing": (lambda events: (), {"lost": 5}),
    "one comes twice": (lambda events: [*events, events[1]], {"repeated": 1}),
    "two change places": (lambda events: [events[1], events[0], *events[2:]], {"reordered": 1}),
    "one is of a stranger": (lambda events: [*events, Sighting("o-2", 1, False)], {"wrongly delivered": 1}),
    "one never happened": (lambda events: [*events, Sighting("o-0", 6, False)], {"wrongly delivered": 1}),
    "one shows the customer": (
        lambda events: [events[0]._replace(with_customer=True), *events[1:]],
        {"wrongly delivered": 1},
    ),
}


@pytest.mark.parametrize("fault", SEEDED)
def test_a_seeded_fault_is_named(history: History, fault: str) -> None:
    spoil, expected = SEEDED[fault]
    viewer = replace(CUSTOMER, filter={"order_id": ["o-0"]})
    record = ideal(viewer, history, since=0)
    record.events = list(spoil(record.events))
    assert kinds(viewer, record, history) == expected


def test_what_the_snapshot_held_must_not_come_again_and_what_follows_must(history: History) -> None:
    record = ideal(OPERATOR, history, since=3)
    assert [sighting.order_id for sighting in record.snapshot] == ["o-0", "o-3", "o-2"]
    again = replace(record, events=[Sighting("o-0", 1, True), *record.events])
    assert kinds(OPERATOR, again, history) == {"repeated": 1}
    assert kinds(OPERATOR, replace(record, events=[]), history) == {"lost": len(record.events)}


def test_an_order_that_the_snapshot_left_out_is_lost_with_all_that_follows(history: History) -> None:
    record = ideal(OPERATOR, history, since=3)
    record.snapshot = [sighting for sighting in record.snapshot if sighting.order_id != "o-3"]
    record.events = [sighting for sighting in record.events if sighting.order_id != "o-3"]
    assert kinds(OPERATOR, record, history) == {"lost": 2}


def test_an_order_in_the_snapshot_that_is_none_of_the_viewers_is_named(history: History) -> None:
    record = ideal(CUSTOMER, history, since=3)
    record.snapshot.append(Sighting("o-2", 1, False))
    assert kinds(CUSTOMER, record, history) == {"wrongly delivered": 1}


def test_the_event_that_takes_an_order_out_of_the_list_is_due_and_later_ones_are_not(
    history: History,
) -> None:
    viewer = replace(OPERATOR, filter={"status": ["created"]})
    due = [(e["order_id"], e["version"]) for e in log_of(history) if viewer.is_due(e)]
    assert due == [("o-0", 1), ("o-3", 1), ("o-2", 1), ("o-0", 2), ("o-3", 2), ("o-2", 2)]
    assert orders_due(viewer, history) == {}
    assert orders_due(OPERATOR, history) == {"o-2": 2}


@pytest.mark.parametrize(
    ("merchants", "orders", "wanted", "covered"),
    [
        (EVERYBODY, None, {}, {"o-0", "o-3", "o-2"}),
        (("acme",), None, {}, {"o-0", "o-3"}),
        (("acme",), None, {"merchant_id": ["zeta"]}, set()),
        (("acme",), None, {"order_id": ["o-3", "o-2"]}, {"o-3"}),
        (("acme",), ("o-0", "o-2"), {}, {"o-0"}),
        ((), ("o-0", "o-2"), {}, {"o-0", "o-2"}),
        ((), ("o-0", "o-2"), {"merchant_id": ["zeta"]}, {"o-2"}),
        ((), None, {}, set()),
        ((), (), {}, set()),
    ],
)
def test_the_token_limits_and_the_filter_narrows(
    merchants: tuple[str, ...], orders: tuple[str, ...] | None, wanted: dict[str, Any], covered: set[str]
) -> None:
    viewer = Viewer("v", merchants, orders, wanted)
    assert {name for name, merchant in MERCHANT_OF.items() if viewer.covers(name, merchant)} == covered
