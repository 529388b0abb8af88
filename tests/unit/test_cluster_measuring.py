"""The pure parts of the cluster's tests: pauses, verdicts, and the table of the page."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.measuring import is_steady, longest_gap_seconds, outage_seconds
from cluster.scenarios import SCENARIOS
from cluster.table import BEGIN, END, row, with_rows
from cluster.verdict import Outcome, clean_restart, misses, single_fault, while_it_lasts

GOOD = Outcome(
    scenario="a fault",
    mode="hosts",
    bar=single_fault(60),
    accepted_seconds=1.0,
    decided_seconds=14.9,
    recovered_alone=True,
    lost=0,
    repeated=0,
    reordered=0,
    other_faults=0,
    dashboards=16,
    noticed=3,
    dashboard_gap_seconds=2.0,
)
PAGE = f"before\n{BEGIN}\n{END}\nafter\n"


def test_a_pause_begins_with_the_last_answer_before_the_fault() -> None:
    assert longest_gap_seconds([9.0, 13.0, 14.0], since=10, until=15) == 4.0


def test_a_pause_without_an_end_lasts_until_the_end() -> None:
    assert longest_gap_seconds([9.5], since=10, until=70) == 60.5


def test_no_answer_at_all_is_a_pause_of_the_whole_span() -> None:
    assert longest_gap_seconds([], since=10, until=70) == 60


@given(st.lists(st.integers(0, 100)), st.integers(0, 50), st.integers(0, 50))
def test_one_more_answer_never_makes_a_pause_longer(times: list[int], since: int, length: int) -> None:
    until = since + length
    whole = longest_gap_seconds(times, since, until)
    assert whole >= longest_gap_seconds([*times, since], since, until)
    assert longest_gap_seconds([*times, since], since, until) <= length


def test_the_worst_partition_counts() -> None:
    answers = {0: [0.0, 1.0, 2.0, 3.0, 4.0], 1: [0.0, 4.0]}
    assert outage_seconds(answers, 0, 4) == 4.0
    assert not is_steady(answers, 4, largest_gap_seconds=2)
    assert is_steady({0: answers[0]}, 4, largest_gap_seconds=2)


def test_a_partition_without_an_answer_is_not_steady() -> None:
    assert not is_steady({0: [1.0, 2.0, 3.0, 4.0], 1: []}, 4, largest_gap_seconds=2)


def test_what_is_within_its_bars_misses_none() -> None:
    assert list(misses(GOOD)) == []


def test_what_cannot_be_accepted_during_a_fault_may_take_as_long_as_the_fault_and_15_s() -> None:
    bar = while_it_lasts(64.2)
    assert list(misses(replace(GOOD, bar=bar, accepted_seconds=79.1))) == []
    assert list(misses(replace(GOOD, bar=bar, accepted_seconds=79.3))) == [
        "not accepted for 79.3 s (bar: 79 s)"
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"decided_seconds": 15.1}, "not decided for 15.1 s (bar: 15 s)"),
        ({"accepted_seconds": 60.0}, "not accepted for 60.0 s (bar: 15 s)"),
        ({"bar": clean_restart(60), "decided_seconds": 6.0}, "not decided for 6.0 s (bar: 5 s)"),
        ({"lost": 1}, "lost: 1"),
        ({"repeated": 2}, "repeated: 2"),
        ({"reordered": 3}, "reordered: 3"),
        ({"other_faults": 1}, "other faults: 1"),
        ({"recovered_alone": False}, "did not run again by itself"),
    ],
)
def test_each_bar_that_is_missed_is_named(change: dict[str, object], words: str) -> None:
    missed = replace(GOOD, **change)  # type: ignore[arg-type]
    assert list(misses(missed)) == [words]
    assert f"**missed**: {words}" in row(missed, "today")


def test_a_run_writes_its_rows_and_leaves_the_others() -> None:
    order = [("a fault", "hosts"), ("a fault", "balancer"), ("another", "hosts")]
    page = with_rows(PAGE, [row(replace(GOOD, scenario="another"), "first")], order)
    page = with_rows(page, [row(GOOD, "second"), row(replace(GOOD, scenario="gone"), "second")], order)
    lines = [line for line in page.splitlines() if line.startswith("| a")]
    assert [line.split(" | ")[0] for line in lines] == ["| a fault", "| another"]
    assert lines[0].endswith("| second |")
    assert lines[1].endswith("| first |")
    assert page.startswith("before\n")
    assert page.endswith("\nafter\n")


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="no table"):
        with_rows("a page", [], [])


def test_each_scenario_has_a_name_and_a_row_of_its_own() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    assert len({scenario.title for scenario in SCENARIOS}) == len(SCENARIOS)
    assert {scenario.mode for scenario in SCENARIOS} == {"hosts", "balancer"}


def test_the_page_has_the_markers_that_a_run_looks_for() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/reliability.md").read_text()
    assert with_rows(page, [], []).count(BEGIN) == 1
