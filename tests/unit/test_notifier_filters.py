"""Who gets which event: filters, entitlement, and the index that finds them."""

from hypothesis import given
from hypothesis import strategies as st
from notifier_samples import History, audiences, changes, is_found

from tracking_notifier.hub import GroupIndex
from tracking_notifier.stream.filters import Audience, Filter, snapshot_query
from tracking_shared.contracts.access import Grant

EVERYTHING = Grant(merchants=frozenset("*"))


def statuses_got(audience: Audience, *statuses: str) -> list[str]:
    history = History()
    events = [history.apply("o-0", status) for status in statuses]
    return [event.status for event in events if audience.matches(event)]


def test_the_event_that_leaves_the_filter_is_the_last_one() -> None:
    created_only = Audience(EVERYTHING, Filter(statuses=frozenset({"created"})))
    assert statuses_got(created_only, "created", "picked_up", "in_transit") == ["created", "picked_up"]
    active = Audience(EVERYTHING, Filter(active=True))
    assert statuses_got(active, "created", "delivered", "delivered") == ["created", "delivered"]


def test_the_event_that_enters_the_filter_is_the_first_one() -> None:
    delivered = Audience(EVERYTHING, Filter(active=False))
    assert statuses_got(delivered, "created", "in_transit", "delivered") == ["delivered"]


def test_an_order_enters_and_leaves_the_overdue_ones_with_one_event_each() -> None:
    changes = [("created", False), ("created", True), ("picked_up", True), ("picked_up", False)]
    changes += [("in_transit", False), ("in_transit", True), ("delivered", False), ("delivered", False)]
    for overdue, expected in ((True, [1, 2, 3, 5, 6]), (False, [0, 1, 3, 4, 5])):
        audience = Audience(EVERYTHING, Filter(active=True, overdue=overdue))
        history = History()
        events = [history.apply("o-0", *change) for change in changes]
        assert [number for number, event in enumerate(events) if audience.matches(event)] == expected


def test_the_customer_is_encoded_only_for_those_entitled() -> None:
    event = History().apply("o-0", "created")
    assert b"Jane Roe" in event.encoded(with_customer=True)
    assert b"Jane Roe" not in event.encoded(with_customer=False)
    assert Audience(EVERYTHING, Filter()).with_customer
    assert not Audience(Grant(orders=frozenset({"o-0"})), Filter()).with_customer


@given(st.lists(audiences, max_size=12), st.lists(changes, max_size=12), st.data())
def test_the_index_finds_exactly_those_who_want_an_event(
    audiences: list[Audience], changes: list[tuple[str, str]], data: st.DataObject
) -> None:
    index = GroupIndex()
    groups = {audience: index.get_or_create(audience) for audience in audiences}
    gone = data.draw(st.sets(st.sampled_from(list(groups)))) if groups else set()
    for audience in gone:
        index.discard(groups.pop(audience))
    history = History()
    for change in changes:
        event = history.apply(*change)
        found = [group.audience for group in index.matching(event)]
        assert len(found) == len(set(found))
        assert set(found) == {audience for audience in groups if audience.matches(event)}


@given(audiences, st.lists(changes, max_size=20))
def test_the_query_of_a_snapshot_finds_every_order_that_it_shows(
    audience: Audience, changes: list[tuple[str, str]]
) -> None:
    history = History()
    for change in changes:
        history.apply(*change)
    query = snapshot_query(audience)
    for order in history.orders.values():
        if audience.includes(order):
            assert is_found(query, order)
