"""From a history to figures, whatever the workflow."""

from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking_query.reports import figures as report_figures
from tracking_query.reports.figures import (
    Durations,
    StatusCounts,
    TooManyRows,
    count_corrections,
    cut,
    percentile,
    steps,
)
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.workflow import Workflow

START = datetime(2026, 3, 1, tzinfo=UTC)
REPAIRS = Workflow(
    initial="received",
    transitions=MappingProxyType(
        {
            "received": ("diagnosed",),
            "diagnosed": ("waiting", "repaired"),
            "waiting": ("waiting", "diagnosed"),
            "repaired": (),
        }
    ),
)


def history(*moves: tuple[str, int]) -> list[EventDocument]:
    """The history of one order: statuses, and the minutes after the start at which it came into them."""
    statuses = [None, *(status for status, _ in moves)]
    return [
        cast(
            EventDocument,
            {
                "merchant_id": "m-1",
                "status": status,
                "previous_status": statuses[number],
                "recorded_at": START + timedelta(minutes=minutes),
            },
        )
        for number, (status, minutes) in enumerate(moves)
    ]


TWICE_WAITING = history(
    ("received", 0),
    ("diagnosed", 10),
    ("waiting", 11),
    ("waiting", 50),
    ("diagnosed", 71),
    ("waiting", 73),
    ("diagnosed", 76),
    ("repaired", 96),
)


def test_each_stay_in_a_status_is_a_leg_of_its_own_in_the_order_of_the_workflow() -> None:
    figures = Durations(REPAIRS)
    for step in steps(TWICE_WAITING, "recorded"):
        figures.add(0, "", step)
    assert [cells for _, _, cells in figures.rows()] == [
        ["received", "diagnosed", 1, 0, 600.0, 600.0, 600.0],
        ["diagnosed", "waiting", 2, 0, 60.0, 120.0, 120.0],
        ["diagnosed", "repaired", 1, 0, 1200.0, 1200.0, 1200.0],
        ["waiting", "diagnosed", 2, 0, 180.0, 3600.0, 3600.0],
    ]


def test_the_whole_way_is_from_creation_to_the_final_status() -> None:
    figures = Durations(REPAIRS, "order")
    scrapped = history(("received", 0), ("scrapped", 7))
    under_way = history(("received", 0), ("diagnosed", 3), ("waiting", 4))
    for one in (
        scrapped,
        TWICE_WAITING,
        under_way,
        history(("received", 0), ("diagnosed", 1), ("repaired", 2)),
    ):
        for step in steps(one, "recorded"):
            figures.add(0, "", step)
    assert [cells for _, _, cells in figures.rows()] == [
        ["received", "repaired", 2, 0, 120.0, 5760.0, 5760.0],
        ["received", "scrapped", 1, 0, 420.0, 420.0, 420.0],
    ]


def test_who_comes_back_is_counted_again() -> None:
    figures = StatusCounts(REPAIRS)
    for step in steps(TWICE_WAITING, "recorded"):
        figures.add(0, "", step)
    assert [cells for _, _, cells in figures.rows()] == [
        ["received", 1, 1],
        ["diagnosed", 3, 3],
        ["waiting", 2, 2],
        ["repaired", 1, 0],
    ]


def test_a_status_that_an_earlier_workflow_had_is_counted_behind_the_others() -> None:
    figures = Durations(REPAIRS)
    for step in steps(history(("received", 0), ("lost", 5), ("repaired", 6)), "recorded"):
        figures.add(0, "", step)
    figures.add(0, "", list(steps(TWICE_WAITING, "recorded"))[-1])
    assert [cells[:2] for _, _, cells in figures.rows()] == [
        ["diagnosed", "repaired"],
        ["lost", "repaired"],
        ["received", "lost"],
    ]


@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.integers(1, 100))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(
    values: list[float], percent: int
) -> None:
    found = percentile(sorted(values), percent)
    assert sum(value <= found for value in values) * 100 >= percent * len(values)
    assert sum(value < found for value in values) * 100 < percent * len(values)
    assert found in values


def test_a_report_has_a_bounded_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_figures, "MAX_ROWS", 3)
    figures = Durations(REPAIRS)
    *others, last = list(steps(TWICE_WAITING, "recorded"))
    for step in others:
        figures.add(0, "", step)
    with pytest.raises(TooManyRows):
        figures.add(0, "", last)


def corrected(moves: list[EventDocument], status: str, minutes: int, *, active: bool = True) -> None:
    """Adds a correction of the order's status."""
    [event] = history((status, minutes))
    told = {"previous_status": moves[-1]["status"], "type": "order.corrected", "active": active}
    moves.append(cast(EventDocument, event | told))


def told(moves: list[EventDocument]) -> list[tuple[str | None, str, float]]:
    return [(step.previous_status, step.status, step.seconds / 60) for step in steps(moves, "recorded")]


def test_a_correction_back_to_an_earlier_status_takes_back_all_since() -> None:
    moves = history(("received", 0), ("diagnosed", 10), ("repaired", 20))
    moves[-1]["active"] = False
    corrected(moves, "diagnosed", 30)
    assert told(moves) == [(None, "received", 0), ("received", "diagnosed", 10)]
    [later] = history(("repaired", 45))
    moves.append(later)
    assert told(moves)[2:] == [("diagnosed", "repaired", 35)], "it has been in diagnosis since minute 10"


def test_a_correction_from_one_end_to_another_leaves_one_of_them() -> None:
    moves = history(("received", 0), ("diagnosed", 10), ("repaired", 20))
    moves[-1]["active"] = False
    corrected(moves, "scrapped", 30, active=False)
    assert told(moves)[2:] == [("diagnosed", "scrapped", 20)]


def test_a_correction_that_leads_on_leaves_what_was_reported() -> None:
    moves = history(("received", 0), ("diagnosed", 10))
    moves[-1]["active"] = True
    corrected(moves, "repaired", 30, active=False)
    assert told(moves)[2:] == [("diagnosed", "repaired", 20)]


def test_an_order_stays_created_whatever_is_corrected() -> None:
    moves = history(("received", 0))
    moves[-1]["active"] = False  # the workflow may have changed
    corrected(moves, "repaired", 30, active=False)
    corrected(moves, "received", 40)
    assert told(moves) == [(None, "received", 0)]


def test_corrections_are_counted_by_the_time_of_the_correction() -> None:
    moves = history(("received", 0), ("diagnosed", 10), ("repaired", 20))
    corrected(moves, "diagnosed", 30)
    for end, number in ((30, 0), (31, 1)):
        buckets = cut(START, START + timedelta(minutes=end), None, ZoneInfo("UTC"))
        assert count_corrections(moves, "recorded", buckets) == number
