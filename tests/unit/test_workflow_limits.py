"""The limits of a workflow file: when an order is late in a status."""

import json
from pathlib import Path

import pytest

from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW, load_workflow
from tracking_shared.errors import SettingsError

TABLE = {"initial": "new", "transitions": {"new": ["done"], "done": []}}


def file_with(folder: Path, limits: object) -> Path:
    path = folder / "workflow.json"
    path.write_text(json.dumps(TABLE | {"late_after_seconds": limits}))
    return path


def test_a_workflow_without_limits_has_none(tmp_path: Path) -> None:
    assert DEFAULT_WORKFLOW.late_after_seconds == {}
    assert load_workflow(file_with(tmp_path, {})).late_after_seconds == {}
    assert load_workflow(file_with(tmp_path, None)).late_after_seconds == {}


def test_the_limits_of_the_file_are_those_of_the_workflow(tmp_path: Path) -> None:
    assert load_workflow(file_with(tmp_path, {"new": 60})).late_after_seconds == {"new": 60}


@pytest.mark.parametrize(
    "limits",
    [
        {"new": 0},
        {"new": 366 * 24 * 3600 + 1},
        {"new": 1.5},
        {"new": True},
        {"new": "60"},
        {"done": 60},
        {"absent": 60},
        [60],
        "60",
    ],
)
def test_a_limit_that_makes_no_sense_is_a_wrong_configuration(tmp_path: Path, limits: object) -> None:
    with pytest.raises(SettingsError, match="WORKFLOW_FILE"):
        load_workflow(file_with(tmp_path, limits))
