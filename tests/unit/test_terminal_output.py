"""What commands write: nothing that a terminal would act on, and nothing that it cannot write."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.cli.report import report_text
from tracking.terminal import echo, event_line, json_line, printable, printable_lines, refusal_line
from tracking.upkeep.audit import describe
from tracking_shared.contracts.documents import AuditDocument

HOSTILE = "a\u202eb\x1b[31m\u2066"
SHOWN = "a\\u202eb\\u001b[31m\\u2066"
TIME = "2026-03-01T08:15:00.000Z"


def event(text: str) -> dict[str, Any]:
    names = ("order_id", "merchant_id", "status", "previous_status")
    source = {"type": text, "id": text}
    return {
        "data": dict.fromkeys(names, text)
        | {"version": 2, "source": source, "recorded_at": TIME, "occurred_at": None}
    }


def test_an_event_and_a_refusal_show_hidden_characters_as_escapes() -> None:
    line = event_line(event(HOSTILE)).plain
    assert line.count(SHOWN) == 6
    assert printable(line) == line
    line = refusal_line(datetime.now(UTC), HOSTILE, {"detail": HOSTILE}).plain
    assert line.count(SHOWN) == 2
    assert printable(line) == line


def test_a_report_keeps_its_columns_whatever_stands_in_a_cell() -> None:
    rows = [
        {"reason": "r", "source_type": "driver", "source_id": name, "count": 1} for name in (HOSTILE, "dora")
    ]
    text = report_text("refusals", {"rows": rows}, width=80)
    assert text.count(SHOWN) == 2
    heading, rule, *cells = text.splitlines()[2:6]
    assert {line.rindex("1") for line in cells} == {len(rule) - 1} == {len(heading) - 1}


def test_whatever_a_command_says_is_printable(capsys: pytest.CaptureFixture[str]) -> None:
    entry = AuditDocument(
        _id="1",  # type: ignore[typeddict-item]
        at=datetime(2026, 3, 1, tzinfo=UTC),
        actor={"sub": HOSTILE, "via": "cli"},  # type: ignore[typeddict-item]
        action="parked.skip",
        subject=HOSTILE,
        details={"error": HOSTILE},
    )
    echo(f"one\n{describe(entry)}")
    written = capsys.readouterr().out
    assert written.splitlines()[0] == "one"
    assert written.count(SHOWN) >= 2
    assert "\u202e" not in written
    assert "\x1b" not in written


@given(st.text())
def test_lines_stay_lines(text: str) -> None:
    assert printable_lines(text).count("\n") == text.count("\n")


@given(st.dictionaries(st.text(), st.text()), st.sampled_from(["utf-8", "UTF8", "ascii", "cp1252"]))
def test_json_for_programs_stays_the_same_document(document: dict[str, str], encoding: str) -> None:
    line = json_line(document, encoding)
    assert json.loads(line.encode(encoding)) == document
    assert printable(line) == line


SPEAKS = """
import logging
from tracking.cli import main as cli
from tracking.terminal import echo
from tracking.cli.report import report_text
from tracking.terminal import event_line
from rich.console import Console

def speak():
    logging.getLogger("x").warning("J\\u00f6rg \\u202e")
    row = {"status": "m\\u00fcde", "age_from": 0, "age_to": None, "count": 2}
    echo(report_text("open-orders", {"rows": [row]}, 40))
    Console(highlight=False).print(event_line(EVENT), soft_wrap=True)
    return 0

cli.app = lambda *_, **__: speak()
cli.main()
"""


def test_no_command_ends_in_a_traceback_where_the_terminal_is_not_utf_8() -> None:
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii:strict"}
    script = SPEAKS.replace("EVENT", ascii(event("a\u00e9")))
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, check=False, timeout=50
    )
    assert (run.returncode, run.stderr) == (0, b"J\\xf6rg \\u202e\n")
    text = run.stdout.decode("ascii")
    assert "#" in text
    assert "m\\xfcde" in text
    assert "a\\xe9 > a\\xe9" in text
