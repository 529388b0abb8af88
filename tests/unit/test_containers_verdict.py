"""The pure parts of the containers' tests: what was read of what was acknowledged, and the page's table."""

from dataclasses import replace
from typing import Any

import pytest
from pages import read

from containers.scenes import SCENES
from containers.stack import PARTS
from containers.verdict import BEGIN, END, Outcome, contradiction, misses, row, with_rows
from tracking.upkeep.checker import Acknowledged

GOOD = Outcome("one", 100, 1.0, 5, 3, 0, 0, "no faults")


@pytest.mark.parametrize(
    ("outcome", "version", "body", "fault"),
    [
        ("applied", 3, {"outcome": "applied", "version": 3}, None),
        ("duplicate", 3, {"outcome": "applied", "version": 3}, None),
        ("applied", 3, {"outcome": "applied", "version": 4}, "read with version 4"),
        ("applied", 3, {"outcome": "rejected"}, "read as rejected"),
        ("rejected", None, {"outcome": "rejected"}, None),
        ("accepted", None, {"outcome": "applied", "version": 1}, None),
        ("accepted", None, {"outcome": "rejected"}, None),
        ("accepted", None, {"outcome": "accepted"}, "read as accepted"),
    ],
)
def test_what_is_read_is_what_was_acknowledged(
    outcome: str, version: int | None, body: dict[str, Any], fault: str | None
) -> None:
    assert contradiction(Acknowledged("o", "u", outcome, version), 200, body) == fault


def test_an_update_that_is_not_there_is_lost() -> None:
    assert contradiction(Acknowledged("o", "u", "applied", 1), 404, {}) == "read with 404"


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, []),
        ({"stopped_seconds": 6.0}, ["stopped for 6.0 s (bar: 5 s)"]),
        ({"odd": 1}, ["other answers: 1"]),
        ({"lost": 2}, ["lost or changed: 2"]),
        ({"check": "1 fault"}, ["check: 1 fault"]),
        ({"faults": ["query stopped with 1"]}, ["query stopped with 1"]),
    ],
)
def test_a_scene_is_met_only_if_nothing_is_wrong(change: dict[str, Any], missed: list[str]) -> None:
    assert list(misses(replace(GOOD, **change))) == missed


def test_a_run_replaces_its_rows_and_leaves_the_others() -> None:
    former = [
        row(GOOD, "before"),
        row(replace(GOOD, title="two"), "before"),
        row(replace(GOOD, title="gone"), "x"),
    ]
    page = with_rows(f"head\n{BEGIN}\n{END}\ntail", former, ["one", "two", "gone"])
    page = with_rows(page, [row(replace(GOOD, title="two"), "now")], ["one", "two"])
    titles = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert titles == ["what", "one", "two"]
    assert page.count("| now |") == 1
    assert "gone" not in page
    assert page.startswith("head\n")
    assert page.endswith("\ntail")


def test_the_page_has_a_place_for_the_table() -> None:
    assert with_rows(read("docs/reliability.md"), [], [entry.title for entry in SCENES])


@pytest.mark.parametrize("part", PARTS)
def test_each_part_meets_each_fault(part: str) -> None:
    names = {entry.name for entry in SCENES}
    assert {f"{fault}-{part}" for fault in ("restart", "kill", "pause", "cut")} <= names
