"""Which orders may leave the database, and what becomes of commands for those that have left."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import TIME, checkpoint_command, correct_command, create_command, update_command
from tracking.upkeep.checker import Inspection, Records
from tracking_order_state.domain.archiving import ArchiveRequest, archive
from tracking_order_state.domain.batch import decide_batch
from tracking_order_state.domain.decisions import Decisions, Known
from tracking_order_state.domain.order_cache import OrderCache
from tracking_order_state.domain.partition import NOTHING_PARKED, PartitionPosition
from tracking_shared.contracts.access import Grant
from tracking_shared.contracts.commands import AnyCommand
from tracking_shared.contracts.documents import ArchivedOrderDocument, OrderDocument
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

POSITION = PartitionPosition(0, 10, 3, NOTHING_PARKED, TIME, 0, 2, 4, TIME - timedelta(days=9))
LEFT: ArchivedOrderDocument = {
    "_id": "o-1",
    "merchant_id": "m-1",
    "partition": 0,
    "version": 3,
    "part": "part-1",
    "archived_at": TIME,
}


def order(order_id: str, *, version: int = 3, active: bool = False) -> OrderDocument:
    made: Any = {"_id": order_id, "merchant_id": "m-1", "active": active, "version": version, "metadata": {}}
    return OrderDocument(**made)


def request(*order_ids: str) -> ArchiveRequest:
    orders: Any = [
        {"order_id": one, "version": 3, "seq": 5 + n, "updated_at": TIME - timedelta(days=5 - n)}
        for n, one in enumerate(order_ids)
    ]
    return ArchiveRequest("r", "part-1", 0, orders)


def decide(*commands: AnyCommand, known: Known | None = None) -> Decisions:
    known = known or Known({}, {}, {}, archived={"o-1": LEFT})
    return decide_batch(commands, known, partition=0, seq=10, time=TIME, workflow=DEFAULT_WORKFLOW)


def problem_of(decisions: Decisions) -> str | None:
    [outcome] = decisions.outcomes
    assert outcome is not None
    return outcome["problem"] and outcome["problem"]["slug"]


def test_an_order_leaves_that_stands_as_it_was_written_and_a_small_document_stays() -> None:
    decisions = archive(request("o-1"), {"o-1": order("o-1")}, (), time=TIME)
    assert decisions.archiving is not None
    assert decisions.archiving.orders == {"o-1": LEFT}
    after = decisions.position_after(POSITION)
    assert (after.seq, after.commits, after.archived) == (10, 4, 3)
    assert (after.log_start, after.archived_until) == (5, TIME - timedelta(days=5))


@pytest.mark.parametrize(
    ("orders", "waiting"),
    [
        ({}, ()),
        ({"o-1": order("o-1", version=4)}, ()),
        ({"o-1": order("o-1", active=True)}, ()),
        ({"o-1": order("o-1")}, ("o-1",)),
    ],
    ids=["gone", "changed", "active", "awaited"],
)
def test_an_order_stays_that_has_changed_or_is_awaited_and_the_request_is_closed(
    orders: dict[str, OrderDocument], waiting: tuple[str, ...]
) -> None:
    decisions = archive(request("o-1"), orders, waiting, time=TIME)
    assert decisions.archiving is not None
    assert decisions.archiving.orders == {}
    assert not decisions.is_empty
    after = decisions.position_after(POSITION)
    assert replace(after, commits=3) == POSITION


@given(st.lists(st.sampled_from(["left", "changed", "gone"]), min_size=1, max_size=8))
def test_the_log_begins_behind_the_newest_event_that_left(fates: list[str]) -> None:
    names = [f"o-{number}" for number in range(len(fates))]
    orders = {
        name: order(name, version=3 if fate == "left" else 4)
        for name, fate in zip(names, fates, strict=True)
        if fate != "gone"
    }
    step = archive(request(*names), orders, (), time=TIME).archiving
    assert step is not None
    left = [number for number, fate in enumerate(fates) if fate == "left"]
    assert list(step.orders) == [names[number] for number in left]
    assert step.log_start == max((5 + number for number in left), default=0)


@given(
    st.lists(st.sampled_from(["left", "changed", "gone"]), min_size=1, max_size=12),
    st.lists(st.integers(1, 5), min_size=12, max_size=12),
    st.integers(0, 12),
)
def test_a_request_in_several_transactions_lets_the_same_orders_go_as_in_one_also_when_it_is_repeated(
    fates: list[str], sizes: list[int], interrupted_after: int
) -> None:
    names = [f"o-{number}" for number in range(len(fates))]
    orders = {
        name: order(name, version=3 if fate == "left" else 4)
        for name, fate in zip(names, fates, strict=True)
        if fate != "gone"
    }
    whole = archive(request(*names), orders, (), time=TIME)
    left: dict[str, ArchivedOrderDocument] = {}
    position = POSITION

    def carry_out(steps: int) -> bool:
        nonlocal position
        rest: ArchiveRequest | None = request(*names)
        for size in sizes[:steps]:
            assert rest is not None
            some, rest = rest.split(size)
            decisions = archive(some, orders, (), time=TIME)
            position = decisions.position_after(position)
            if decisions.archiving is not None:
                left.update(decisions.archiving.orders)
                for order_id in decisions.archiving.orders:
                    del orders[order_id]
                assert decisions.archiving.is_last == (rest is None)
            if rest is None:
                return True
        return False

    carry_out(interrupted_after)
    assert carry_out(len(sizes))
    assert whole.archiving is not None
    assert left == whole.archiving.orders
    assert replace(position, commits=0) == replace(whole.position_after(POSITION), commits=0)


@pytest.mark.parametrize(
    "command",
    [create_command(), update_command(), checkpoint_command(), correct_command()],
    ids=["create", "update", "checkpoint", "correction"],
)
def test_a_command_for_an_archived_order_is_refused_and_that_is_stored(command: AnyCommand) -> None:
    decisions = decide(command)
    assert problem_of(decisions) == "order-archived"
    [refusal] = decisions.refusals.values()
    assert (refusal["merchant_id"], refusal["version"], refusal["outcome"]) == ("m-1", 3, "rejected")
    assert decisions.events == []


def test_an_early_update_of_an_archived_order_is_not_held() -> None:
    workflow = replace(DEFAULT_WORKFLOW, hold_early_seconds=60)
    known = Known({}, {}, {}, archived={"o-1": LEFT})
    decisions = decide_batch([update_command()], known, partition=0, seq=1, time=TIME, workflow=workflow)
    assert (problem_of(decisions), decisions.held) == ("order-archived", {})


@pytest.mark.parametrize(
    ("command", "slug"), [(create_command, "order-exists"), (update_command, "order-not-found")]
)
def test_who_does_not_reach_it_learns_nothing_and_leaves_no_trace(command: Any, slug: str) -> None:
    decisions = decide(command(grant=Grant(merchants=frozenset({"m-2"}))))
    assert problem_of(decisions) == slug
    assert decisions.refusals == {}


def test_a_repeat_of_an_applied_update_is_answered_while_its_event_is_there() -> None:
    created = create_command(update_id="c")
    event = decide(created, known=Known({}, {}, {})).events[0]
    known = Known({}, {"o-1/c": event}, {}, archived={"o-1": LEFT})
    [outcome] = decide(created, known=known).outcomes
    assert outcome is not None
    assert (outcome["outcome"], outcome["replayed"]) == ("applied", True)


def test_the_owner_forgets_an_order_that_has_left() -> None:
    cache = OrderCache(10**6)
    position = PartitionPosition(0, 10, 3, NOTHING_PARKED, TIME)
    cache.learn(position, {"o-1": order("o-1")}, {"o-1": ()})
    assert cache.recall(position, [update_command()]).orders
    decisions = archive(request("o-1"), {"o-1": order("o-1")}, (), time=TIME)
    after = decisions.position_after(position)
    cache.suspend(position)
    cache.commit([after], [decisions])
    assert cache.recall(after, [update_command()]).missing == {"o-1"}


def test_the_checker_counts_archived_events_and_notices_one_that_is_missing() -> None:
    events = decide(create_command("o-2"), create_command("o-3"), known=Known({}, {}, {})).events
    partition: Any = {
        "_id": 0,
        "seq": 15,
        "commits": 1,
        "worker": "w",
        "epoch": "e",
        "parked": [],
        "archived": 1,
    }
    for version, faults in ((13, 0), (12, 1), (14, 1)):
        inspection = Inspection([partition])
        list(inspection.order_faults(Records(events=[{**event, "seq": event["seq"]} for event in events])))
        inspection.count_unread([{**LEFT, "version": version}])
        assert len(list(inspection.log_faults([partition]))) == faults
        assert list(inspection.log_faults([partition], {0})) == []
