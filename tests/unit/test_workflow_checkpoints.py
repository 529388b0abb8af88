"""The kinds of checkpoints of a workflow file."""

import json
from pathlib import Path

import pytest

from tracking_shared.contracts.workflow import DEFAULT_CHECKPOINTS, DEFAULT_WORKFLOW, load_workflow
from tracking_shared.errors import SettingsError

TABLE = {"initial": "new", "transitions": {"new": ["done"], "done": []}}


def file_with(folder: Path, **members: object) -> Path:
    path = folder / "workflow.json"
    path.write_text(json.dumps(TABLE | members))
    return path


def test_a_file_without_kinds_has_the_default_ones(tmp_path: Path) -> None:
    assert DEFAULT_CHECKPOINTS == ("note", "delivery_attempted", "delayed", "eta_changed", "proof_added")
    assert DEFAULT_WORKFLOW.checkpoints == DEFAULT_CHECKPOINTS
    assert load_workflow(file_with(tmp_path)).checkpoints == DEFAULT_CHECKPOINTS
    assert load_workflow(file_with(tmp_path, checkpoints=None)).checkpoints == DEFAULT_CHECKPOINTS


def test_the_kinds_of_the_file_replace_the_default_ones(tmp_path: Path) -> None:
    kinds = ["note", "held_at_customs"]
    assert load_workflow(file_with(tmp_path, checkpoints=kinds)).checkpoints == tuple(kinds)
    assert load_workflow(file_with(tmp_path, checkpoints=[])).checkpoints == ()


@pytest.mark.parametrize(
    "kinds",
    [
        "note",
        {"note": True},
        7,
        [7],
        ["Note"],
        [""],
        ["n" * 33],
        ["note", "note"],
        [["note"]],
        [f"kind_{number}" for number in range(65)],
    ],
)
def test_kinds_that_make_no_sense_are_a_wrong_configuration(tmp_path: Path, kinds: object) -> None:
    with pytest.raises(SettingsError, match="WORKFLOW_FILE"):
        load_workflow(file_with(tmp_path, checkpoints=kinds))
