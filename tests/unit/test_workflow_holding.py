"""The time for which a workflow file has early updates held."""

import json
from pathlib import Path

import pytest

from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW, Workflow, load_workflow
from tracking_shared.errors import SettingsError

TABLE = {"initial": "new", "transitions": {"new": ["done"], "done": []}}


def file_with(folder: Path, **members: object) -> Path:
    path = folder / "workflow.json"
    path.write_text(json.dumps(TABLE | members))
    return path


def test_without_a_time_nothing_is_held(tmp_path: Path) -> None:
    assert DEFAULT_WORKFLOW.hold_early_seconds == 0
    assert load_workflow(file_with(tmp_path)).hold_early_seconds == 0


@pytest.mark.parametrize("seconds", [0, 1, 86_400])
def test_the_time_of_the_file_counts(tmp_path: Path, seconds: int) -> None:
    assert load_workflow(file_with(tmp_path, hold_early_seconds=seconds)).hold_early_seconds == seconds


@pytest.mark.parametrize("seconds", [-1, 86_401, 1.5, True, "60", None, [60]])
def test_a_time_that_makes_no_sense_is_a_wrong_configuration(tmp_path: Path, seconds: object) -> None:
    with pytest.raises(SettingsError, match="hold_early_seconds"):
        load_workflow(file_with(tmp_path, hold_early_seconds=seconds))


def test_what_can_be_reached_along_the_table() -> None:
    table = {"a": ("b",), "b": ("c", "x"), "c": ("b",), "x": ()}
    workflow = Workflow("a", table)
    assert {end for end in table if workflow.can_reach("a", end)} == {"b", "c", "x"}
    assert {end for end in table if workflow.can_reach("c", end)} == {"b", "c", "x"}
    assert not any(workflow.can_reach("x", end) for end in table)
    assert not workflow.can_reach("of another table", "a")
