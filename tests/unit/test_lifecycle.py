"""The rule: what may happen to an order."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import TIME, create_command, update_command
from tracking_order_state.domain.lifecycle import MAX_BYTES, MAX_KEYS, Refusal, Slot, decide, merge_metadata
from tracking_shared.contracts.commands import CreateOrder, UpdateOrder
from tracking_shared.contracts.documents import EventDocument, OrderDocument, project
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

SLOT = Slot(partition=3, seq=7, time=TIME)
STATUSES = sorted(DEFAULT_WORKFLOW.statuses)


def applied(
    order: OrderDocument | None, command: CreateOrder | UpdateOrder, slot: Slot = SLOT
) -> EventDocument:
    result = decide(order, command, slot, DEFAULT_WORKFLOW)
    assert not isinstance(result, Refusal), result
    return result


def refused(order: OrderDocument | None, command: CreateOrder | UpdateOrder) -> dict[str, object]:
    result = decide(order, command, SLOT, DEFAULT_WORKFLOW)
    assert isinstance(result, Refusal), result
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


_metadata = st.dictionaries(st.text(min_size=1, max_size=40), st.text(max_size=120), max_size=MAX_KEYS)


@given(st.lists(_metadata, max_size=8))
def test_merged_metadata_stays_within_bounds_and_the_newest_always_wins(
    updates: list[dict[str, str]],
) -> None:
    merged: dict[str, str] = {}
    for update in updates:
        if len(str(update).encode()) > MAX_BYTES // 2:
            continue
        merged = merge_metadata(merged, update)
        assert len(merged) <= MAX_KEYS
        assert update.items() <= merged.items()
