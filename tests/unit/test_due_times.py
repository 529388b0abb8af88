"""The rule of due times: when an order is overdue, and for which due times an event is still to come."""

from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import TIME, create_command, update_command
from tracking_order_state.domain.due_times import due_fields
from tracking_order_state.domain.lifecycle import Rejection, decide
from tracking_order_state.domain.partition import Slot
from tracking_shared.contracts.commands import CreateOrder, UpdateOrder, decode_commands, encode_command
from tracking_shared.contracts.documents import (
    EventDocument,
    OrderDocument,
    due_key,
    event_type,
    position_key,
    project,
)
from tracking_shared.contracts.messages import cloud_event, history_item, order_view
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

SLOT = Slot(partition=3, seq=7, time=TIME)
HOUR = timedelta(hours=1)


def made(order: OrderDocument | None, command: CreateOrder | UpdateOrder) -> EventDocument:
    event = decide(order, command, SLOT, DEFAULT_WORKFLOW)
    assert not isinstance(event, Rejection), event
    return event


def due(due_at: datetime | None = TIME) -> OrderDocument:
    return project(made(None, create_command(due_at=due_at)))


def after(order: OrderDocument, *, active: bool = True, **changes: datetime) -> OrderDocument:
    """The order after an event with the fields that the rule makes of it."""
    fields = {"due_at", "eta", "overdue", "announced_due_at", "previous_overdue"}
    event: Any = {name: value for name, value in made(None, create_command()).items() if name not in fields}
    return project(event | {"active": active} | due_fields(order, active=active, **changes))


def is_awaited(order: OrderDocument) -> bool:
    """True if `order.overdue` is still to come for it."""
    return "due_key" in order


def test_an_order_without_a_due_time_stores_nothing_of_it() -> None:
    event = made(None, create_command())
    assert not {"due_at", "eta", "overdue", "announced_due_at", "previous_overdue", "type"} & event.keys()
    assert not {"due_at", "eta", "overdue", "announced_due_at", "due_key"} & project(event).keys()


def test_a_created_order_awaits_its_due_time_also_one_in_the_past() -> None:
    for due_at in (TIME + HOUR, TIME - HOUR):
        order = due(due_at)
        assert (order["due_at"], order.get("overdue")) == (due_at, None)
        assert order["due_key"] == due_key(3, due_at)


def test_a_step_keeps_the_due_time_and_what_is_known_of_it() -> None:
    order = after(due(), eta=TIME + HOUR)
    moved = project(made(order, update_command(status="picked_up")))
    assert (moved["due_at"], moved["eta"], moved["due_key"]) == (TIME, TIME + HOUR, order["due_key"])
    overdue = after(order, announced_due_at=TIME)
    moved = project(made(overdue, update_command(status="picked_up")))
    assert moved["overdue"]
    assert not is_awaited(moved)


def test_a_step_to_a_final_status_ends_the_delay_and_the_waiting() -> None:
    for order in (due(), after(due(), announced_due_at=TIME)):
        event = made(order, update_command(status="cancelled"))
        assert project(event).get("overdue") is None
        assert not is_awaited(project(event))
        assert event.get("previous_overdue") is order.get("overdue")


def test_a_later_due_time_ends_the_delay_and_an_earlier_one_does_not() -> None:
    overdue = after(due(), announced_due_at=TIME)
    later, earlier = after(overdue, due_at=TIME + HOUR), after(overdue, due_at=TIME - HOUR)
    assert (later.get("overdue"), is_awaited(later)) == (None, True)
    assert (earlier.get("overdue"), is_awaited(earlier)) == (True, False)


def test_an_earlier_due_time_of_an_order_that_is_not_overdue_is_awaited() -> None:
    order = after(due(), due_at=TIME - HOUR)
    assert (order.get("overdue"), order["due_key"]) == (None, due_key(3, TIME - HOUR))


def test_an_order_that_becomes_active_again_is_overdue_if_that_was_announced_and_else_awaits_it() -> None:
    announced = after(after(due(), announced_due_at=TIME), active=False)
    assert announced.get("overdue") is None
    assert after(announced).get("overdue")
    assert is_awaited(after(after(due(), active=False)))


def test_an_estimate_changes_nothing_else() -> None:
    order = due()
    assert after(order, eta=TIME + HOUR) == order | {"eta": TIME + HOUR}


Changes = st.lists(
    st.tuples(st.sampled_from(["due_at", "announce", "final", "active"]), st.integers(-3, 3)), max_size=20
)


@given(Changes)
def test_a_due_time_is_announced_once_whatever_happens_to_the_order(changes: list[tuple[str, int]]) -> None:
    order, active, announced = due(), True, list[datetime]()
    for change, hours in changes:
        active = {"final": False, "active": True}.get(change, active)
        if change == "due_at":
            order = after(order, active=active, due_at=TIME + hours * HOUR)
        elif change == "announce" and is_awaited(order):
            announced.append(order["due_at"])
            order = after(order, active=active, announced_due_at=order["due_at"])
            assert order["overdue"]
        else:
            order = after(order, active=active)
        # Of an active order with a due time, always one of the two holds; of others neither.
        assert [bool(order.get("overdue")), is_awaited(order)].count(True) == active
    assert announced == sorted(set(announced))


def test_the_due_times_of_a_partition_are_a_range_of_keys() -> None:
    times = [
        TIME - 200 * 366 * 24 * HOUR,
        TIME,
        TIME + timedelta(milliseconds=1),
        TIME + 200 * 365 * 24 * HOUR,
    ]
    keys = [due_key(partition, time) for partition in (0, 1, 1023) for time in times]
    assert keys == sorted(set(keys))
    assert keys[-1] < 2**53
    assert position_key(1023, 1) < 2**53


def test_what_is_stored_of_it_is_shown_everywhere_and_none_is_shown_as_null() -> None:
    event = made(None, create_command(due_at=TIME))
    late = event | due_fields(project(event), active=True, announced_due_at=TIME, eta=TIME + HOUR)
    late = late | {"type": "order.overdue", "version": 2}
    shown = {"due_at": "2026-03-01T12:00:00.000Z", "eta": "2026-03-01T13:00:00.000Z", "overdue": True}
    none = {"due_at": None, "eta": None, "overdue": False}
    for document, expected in ((late, shown), (made(None, create_command()), none)):
        views: list[Any] = [
            order_view(project(document), DEFAULT_WORKFLOW, with_customer=False),
            cloud_event(document, DEFAULT_WORKFLOW)["data"],
            history_item(document, with_customer=False),
        ]
        for view in views:
            assert {name: view[name] for name in expected} == expected
    assert cloud_event(late, DEFAULT_WORKFLOW)["type"] == history_item(late, with_customer=False)["type"]
    assert [event_type(event), event_type(late)] == ["order.created", "order.overdue"]


@pytest.mark.parametrize("due_at", [None, TIME])
def test_an_order_state_of_the_release_before_is_sent_a_due_time_only_where_there_is_one(
    due_at: datetime | None,
) -> None:
    command = create_command(due_at=due_at)
    encoded = encode_command(command)
    assert ("due_at" in orjson.loads(encoded)) is (due_at is not None)
    assert decode_commands(b"[" + encoded + b"]") == [command]
