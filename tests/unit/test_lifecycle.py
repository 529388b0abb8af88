"""The rule: what may happen to an order."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import TIME, checkpoint_command, correct_command, create_command, update_command
from tracking_order_state.domain.lifecycle import Rejection, decide, merge_metadata
from tracking_order_state.domain.partition import Slot
from tracking_shared.contracts.commands import AddCheckpoint, AnyCommand, CorrectOrder
from tracking_shared.contracts.documents import (
    MAX_METADATA_BYTES,
    MAX_METADATA_KEYS,
    EventDocument,
    OrderDocument,
    event_type,
    project,
)
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

SLOT = Slot(partition=3, seq=7, time=TIME)
STATUSES = sorted(DEFAULT_WORKFLOW.statuses)


def applied(order: OrderDocument | None, command: AnyCommand, slot: Slot = SLOT) -> EventDocument:
    result = decide(order, command, slot, DEFAULT_WORKFLOW)
    assert not isinstance(result, Rejection), result
    return result


def refused(order: OrderDocument | None, command: AnyCommand) -> dict[str, object]:
    result = decide(order, command, SLOT, DEFAULT_WORKFLOW)
    assert isinstance(result, Rejection), result
    return {"slug": result.problem["slug"], **result.problem["members"]}


def order_in(status: str) -> OrderDocument:
    order = project(applied(None, create_command()))
    return order | {"status": status, "active": DEFAULT_WORKFLOW.is_active(status), "version": 4}  # type: ignore[return-value]


def test_a_created_order_starts_at_version_1_in_the_initial_status() -> None:
    event = applied(None, create_command())
    assert (event["version"], event["status"], event["previous_status"]) == (1, "created", None)
    assert (event["partition"], event["seq"]) == (3, 7)


def test_an_update_of_nothing_is_not_found() -> None:
    assert refused(None, update_command())["slug"] == "order-not-found"


def test_a_second_create_is_refused_with_where_the_order_stands() -> None:
    assert refused(order_in("in_transit"), create_command()) == {
        "slug": "order-exists",
        "current_status": "in_transit",
        "version": 4,
    }


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("requested", STATUSES)
def test_every_pair_of_statuses_is_decided_as_the_table_says(status: str, requested: str) -> None:
    order = order_in(status)
    command = update_command(status=requested)
    if requested in DEFAULT_WORKFLOW.allowed_next(status):
        event = applied(order, command)
        assert (event["previous_status"], event["status"], event["version"]) == (status, requested, 5)
    else:
        assert refused(order, command) == {
            "slug": "invalid-transition",
            "current_status": status,
            "requested_status": requested,
            "allowed_next": list(DEFAULT_WORKFLOW.allowed_next(status)),
            "version": 4,
        }


def test_another_version_than_the_expected_one_is_refused() -> None:
    problem = refused(order_in("created"), update_command(expected_version=3))
    assert problem == {"slug": "version-conflict", "version": 4, "expected_version": 3}
    assert applied(order_in("created"), update_command(expected_version=4))["version"] == 5


def test_recorded_time_never_runs_backwards_within_an_order() -> None:
    order = order_in("created")
    earlier = Slot(partition=3, seq=8, time=TIME - timedelta(seconds=3))
    assert applied(order, update_command(), earlier)["recorded_at"] == order["updated_at"]


def test_the_order_is_the_projection_of_its_newest_event() -> None:
    created = applied(None, create_command(metadata={"channel": "web", "kg": 2}))
    moved = applied(project(created), update_command(metadata={"kg": 3}))
    assert project(moved)["metadata"] == {"channel": "web", "kg": 3}
    assert project(moved)["customer"] == {"name": "Ada", "contact_ref": "crm-1"}
    assert project(moved)["created_at"] == created["recorded_at"]


_metadata = st.dictionaries(
    st.text(min_size=1, max_size=40), st.text(max_size=120), max_size=MAX_METADATA_KEYS
)


@given(st.lists(_metadata, max_size=8))
def test_merged_metadata_stays_within_bounds_and_the_newest_always_wins(
    updates: list[dict[str, str]],
) -> None:
    merged: dict[str, str] = {}
    for update in updates:
        if len(str(update).encode()) > MAX_METADATA_BYTES // 2:
            continue
        merged = merge_metadata(merged, update)
        assert len(merged) <= MAX_METADATA_KEYS
        assert update.items() <= merged.items()


@pytest.mark.parametrize("status", STATUSES)
def test_a_checkpoint_is_recorded_at_every_status_and_leaves_it(status: str) -> None:
    order = order_in(status)
    event = applied(order, checkpoint_command(kind="delivery_attempted", message="nobody at home"))
    assert (event["status"], event["previous_status"], event["version"]) == (status, status, 5)
    assert event["active"] == order["active"]
    assert (event_type(event), event["kind"]) == ("order.checkpoint_added", "delivery_attempted")
    assert event["message"] == "nobody at home"
    assert "reason" not in event


def test_a_checkpoint_sets_the_due_time_and_the_estimate_that_it_tells() -> None:
    order = project(applied(None, create_command(due_at=TIME + timedelta(hours=9))))
    eta, due_at = TIME + timedelta(hours=3), TIME + timedelta(hours=5)
    order = project(applied(order, checkpoint_command(kind="eta_changed", eta=eta)))
    assert (order["eta"], order["due_at"]) == (eta, TIME + timedelta(hours=9))
    order = project(applied(order, checkpoint_command(kind="delayed", due_at=due_at)))
    assert (order["eta"], order["due_at"]) == (eta, due_at)
    order = project(applied(order, checkpoint_command()))
    assert (order["eta"], order["due_at"]) == (eta, due_at), "null counts as not given"


def test_what_a_checkpoint_does_not_say_is_not_stored() -> None:
    event = applied(order_in("created"), checkpoint_command())
    assert event.keys().isdisjoint({"message", "eta", "due_at", "reason"})


def test_the_metadata_of_a_checkpoint_belongs_to_the_checkpoint_alone() -> None:
    order = project(applied(None, create_command(metadata={"channel": "web"})))
    event = applied(order, checkpoint_command(metadata={"photo": "x" * 4000}))
    assert event["metadata"] == {"photo": "x" * 4000}
    assert project(event)["metadata"] == {"channel": "web"}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("requested", STATUSES)
def test_a_correction_goes_from_any_status_to_any_other(status: str, requested: str) -> None:
    order = order_in(status)
    command = correct_command(status=requested, reason="scanned the wrong parcel")
    if requested == status:
        assert refused(order, command) == {
            "slug": "invalid-transition",
            "current_status": status,
            "requested_status": status,
            "allowed_next": list(DEFAULT_WORKFLOW.allowed_next(status)),
            "version": 4,
        }
        return
    event = applied(order, command)
    assert (event["previous_status"], event["status"], event["version"]) == (status, requested, 5)
    assert event["active"] == project(event)["active"] == DEFAULT_WORKFLOW.is_active(requested)
    assert (event_type(event), event["reason"]) == ("order.corrected", "scanned the wrong parcel")


def test_a_correction_to_a_status_that_this_workflow_lacks_is_refused() -> None:
    assert refused(order_in("delivered"), correct_command(status="eaten"))["slug"] == "invalid-transition"


@pytest.mark.parametrize("make", [checkpoint_command, correct_command], ids=["checkpoint", "correction"])
def test_checkpoints_and_corrections_need_an_order_at_the_expected_version(make: object) -> None:
    make = checkpoint_command if make is checkpoint_command else correct_command
    assert refused(None, make())["slug"] == "order-not-found"
    problem = refused(order_in("created"), make(expected_version=3))
    assert problem == {"slug": "version-conflict", "version": 4, "expected_version": 3}
    assert applied(order_in("created"), make(expected_version=4))["version"] == 5


def test_a_final_order_that_changes_since_remembers_when_it_came_into_its_status() -> None:
    order = project(applied(order_in("in_transit"), update_command(status="delivered")))
    assert "closing" not in order
    later = Slot(partition=3, seq=8, time=TIME + timedelta(hours=1))
    order = project(applied(order, checkpoint_command(kind="proof_added"), later))
    assert order["closing"] == {"at": TIME, "changed_at": later.time}
    latest = Slot(partition=3, seq=9, time=TIME + timedelta(hours=2))
    order = project(applied(order, checkpoint_command(), latest))
    assert order["closing"] == {"at": TIME, "changed_at": latest.time}
    corrected = project(applied(order, correct_command(status="cancelled"), latest))
    assert "closing" not in corrected


_COMMANDS = st.one_of(
    st.builds(create_command),
    st.builds(update_command, status=st.sampled_from(STATUSES), metadata=st.just({"van": 1})),
    st.builds(checkpoint_command, kind=st.sampled_from(DEFAULT_WORKFLOW.checkpoints)),
    st.builds(correct_command, status=st.sampled_from(STATUSES)),
)


@given(st.lists(_COMMANDS, max_size=40))
def test_only_steps_and_corrections_change_the_status_and_versions_have_no_gaps(
    commands: list[AnyCommand],
) -> None:
    order: OrderDocument | None = None
    for seq, command in enumerate(commands):
        event = decide(order, command, Slot(0, seq, TIME + timedelta(seconds=seq)), DEFAULT_WORKFLOW)
        if isinstance(event, Rejection):
            continue
        after = project(event)
        assert after["version"] == (order["version"] if order else 0) + 1
        assert event["previous_status"] == (order["status"] if order else None)
        assert after["active"] == DEFAULT_WORKFLOW.is_active(after["status"])
        if isinstance(command, AddCheckpoint):
            assert order is not None
            kept = ("status", "active", "metadata", "customer", "created_at")
            assert [after[name] for name in kept] == [order[name] for name in kept]
        elif order is not None:
            is_legal = after["status"] in DEFAULT_WORKFLOW.allowed_next(order["status"])
            assert is_legal or isinstance(command, CorrectOrder)
        order = after
