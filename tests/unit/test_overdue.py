"""The event that says that a due time has passed: for which orders, and what is in it."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from builders import TIME, create_command, update_command
from tracking.upkeep.checker import Records, find_faults
from tracking_order_state.domain.batch import decide_batch
from tracking_order_state.domain.decisions import NOTHING_KNOWN, Decisions
from tracking_order_state.domain.overdue import is_reserved, mark_overdue, overdue_update_id
from tracking_order_state.domain.partition import NOTHING_PARKED, PartitionPosition
from tracking_shared.contracts.commands import AnyCommand
from tracking_shared.contracts.documents import OrderDocument
from tracking_shared.contracts.identifiers import is_identifier
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

HOUR = timedelta(hours=1)
POSITION = PartitionPosition(0, 0, 1, NOTHING_PARKED, TIME)


def decided(
    *commands: AnyCommand,
    orders: dict[str, OrderDocument] | None = None,
    position: PartitionPosition = POSITION,
) -> Decisions:
    return decide_batch(
        commands,
        replace(NOTHING_KNOWN, orders=orders or {}),
        partition=position.partition,
        seq=position.seq,
        time=position.horizon,
        workflow=DEFAULT_WORKFLOW,
    )


def due_orders(*times: datetime | None) -> Decisions:
    return decided(*(create_command(f"o-{number}", due_at=time) for number, time in enumerate(times)))


def marked(
    orders: dict[str, OrderDocument], now: datetime, position: PartitionPosition = POSITION
) -> Decisions:
    return mark_overdue(orders.values(), position, now=now, time=position.recording_time(now))


def test_those_whose_time_has_come_have_an_event_each_and_no_others() -> None:
    made = due_orders(TIME - HOUR, TIME, TIME + HOUR, None)
    events = marked(made.orders, TIME).events
    assert [(event["order_id"], event["version"]) for event in events] == [("o-0", 2), ("o-1", 2)]
    for event in events:
        assert event["type"] == "order.overdue"
        assert (event["status"], event["previous_status"]) == ("created", "created")
        assert (event["overdue"], event.get("previous_overdue")) == (True, None)
        assert event["source"] == {"type": "system", "id": "tracking:clock"}
        assert is_identifier(event["update_id"])


def test_all_else_of_the_order_stays() -> None:
    [order] = decided(
        create_command("o-1", due_at=TIME, reference="#17", metadata={"van": "B"})
    ).orders.values()
    [after] = marked({"o-1": order}, TIME).orders.values()
    changed = {"version": 2, "source": {"type": "system", "id": "tracking:clock"}, "updated_at": TIME}
    changed |= {"overdue": True, "announced_due_at": TIME}
    assert after | {"due_key": order["due_key"]} == order | changed


def test_marked_again_nothing_happens_whatever_the_clock_says() -> None:
    once = marked(due_orders(TIME).orders, TIME)
    for now in (TIME - HOUR, TIME, TIME + HOUR):
        assert marked(once.orders, now).is_empty


def test_an_order_that_is_delivered_first_is_not_overdue_and_one_that_is_marked_first_is_delivered() -> None:
    orders = due_orders(TIME).orders
    cancelled = decided(update_command("o-0", "cancelled"), orders=orders)
    assert marked(cancelled.orders, TIME).is_empty
    late = decided(update_command("o-0", "cancelled"), orders=marked(orders, TIME).orders)
    [event] = late.events
    assert (event["version"], event.get("overdue"), event["previous_overdue"]) == (3, None, True)


def test_what_is_written_is_consistent() -> None:
    made = due_orders(TIME, TIME + HOUR)
    after = made.position_after(POSITION)
    late = marked(made.orders, TIME, after)
    end = late.position_after(after)
    partition: Any = {"_id": 0, "seq": end.seq, "parked": []}
    orders = [*(made.orders | late.orders).values()]
    assert find_faults(Records(orders, [*made.events, *late.events], [], [partition])) == []


def test_the_update_id_of_a_due_time_is_always_the_same_and_no_caller_can_use_it() -> None:
    update_id = overdue_update_id(TIME)
    assert update_id == overdue_update_id(TIME) != overdue_update_id(TIME + timedelta(milliseconds=1))
    assert is_reserved(update_id)
    assert is_identifier(overdue_update_id(datetime.fromisoformat("1900-01-01T00:00:00Z")))
    orders = due_orders(TIME).orders
    made = decided(update_command("o-0", "picked_up", update_id=update_id), orders=orders)
    [outcome] = made.outcomes
    assert outcome is not None
    assert outcome["problem"] is not None
    assert outcome["problem"]["slug"] == "idempotency-key-reused"
    assert made.is_empty
    assert not is_reserved("tracking")


# What the checker says.


def records(*, overdue_by: timedelta = timedelta(), seen_at: datetime = TIME) -> Records:
    """The records of an order that was due at `TIME` and marked so much later, as seen at a horizon."""
    made = due_orders(TIME)
    after = made.position_after(POSITION)
    late = marked(made.orders, TIME + overdue_by, after)
    partition: Any = {"_id": 0, "seq": late.position_after(after).seq, "parked": [], "horizon": seen_at}
    return Records([*(made.orders | late.orders).values()], [*made.events, *late.events], [], [partition])


def test_the_checker_finds_an_order_that_is_not_marked_while_its_partition_goes_on() -> None:
    for hours, faults in ((0, 0), (1, 1)):
        found = find_faults(records(overdue_by=-HOUR, seen_at=TIME + hours * HOUR))
        assert len(found) == faults
        assert all("is not marked as overdue" in fault for fault in found)


def test_the_checker_finds_flags_that_do_not_follow_from_the_events() -> None:
    for change, text in (
        ({"overdue": False}, "wrongly overdue"),
        ({"previous_overdue": True}, "wrongly whether"),
        ({"announced_due_at": TIME + HOUR}, "wrongly overdue"),
        ({"due_at": TIME + HOUR, "announced_due_at": TIME + HOUR}, "before it was due"),
        ({"type": "order.status_changed"}, "not a legal transition"),
    ):
        found = records()
        found.events[-1] |= change  # type: ignore[typeddict-item]
        assert any(text in fault for fault in find_faults(found)), change


def test_the_checker_finds_a_second_event_for_a_due_time() -> None:
    found = records()
    found.events.append(found.events[-1] | {"version": 3, "seq": 3, "_id": 3, "update_id": "u"})  # type: ignore[arg-type]
    assert any("says again" in fault for fault in find_faults(found))
