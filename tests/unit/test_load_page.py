"""The page about loading: its tables against the code, its example run as it stands there."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer
from pages import blocks, read, section, tables

from tracking.cli.main import app
from tracking.load.header import COLUMNS
from tracking.load.order_records import MAX_MOMENT_RECORDS
from tracking.load.spool import MAX_ORDER_RECORDS
from tracking.load.summary import MAX_SHOWN

PAGE = read("docs/load.md")


def _column(heading: str, name: str) -> list[str]:
    return [row[name] for row in tables(section(PAGE, heading))[0]]


def test_the_columns_are_those_that_are_loaded() -> None:
    assert sorted(_column("## Tables (CSV)", "column")) == sorted(COLUMNS)


def test_the_options_are_those_of_the_command() -> None:
    group: Any = typer.main.get_command(app)
    options = {
        param.opts[-1] for param in group.get_command(None, "load").params if param.opts[-1].startswith("--")
    }
    assert set(_column("## Options", "option")) == options


def test_the_bounds_are_those_of_the_code() -> None:
    text = " ".join(PAGE.split())
    assert f"the first {MAX_SHOWN} of what" in text
    assert f"the rows of one order, up to {MAX_ORDER_RECORDS:,}." in text
    assert f"the same time (up to {MAX_MOMENT_RECORDS})" in text


def test_the_example_says_what_is_printed_below_it(tmp_path: Path) -> None:
    example = section(PAGE, "## Dry run")
    [program] = blocks(example, "sh")
    printed = example.split("```\n\n```\n")[1].split("```")[0]

    finished = subprocess.run(
        ["bash", "-c", program],  # noqa: S607 - the page's reader has one, too
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.stdout == printed
    assert finished.stderr == "monday.csv: CSV separated by semicolons, UTF-8\n"
    assert finished.returncode == 2
