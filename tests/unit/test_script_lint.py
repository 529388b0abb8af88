"""The linter of the scripts finds names and imports that are not there, which fail only when it runs."""

import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT

OXLINT = Path(sys.executable).with_name("oxlint")


def linted(folder: Path) -> str:
    command = [OXLINT, "--config", ROOT / ".oxlintrc.json", "--format", "unix", folder]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_an_undefined_name_and_an_import_of_what_no_module_exports_are_found(tmp_path: Path) -> None:
    (tmp_path / "given.js").write_text("export const given = 1;\n")
    (tmp_path / "asking.js").write_text(
        'import { given, missing } from "./given.js";\nexport const sum = given + missing + undefinedName;\n'
    )
    found = linted(tmp_path)
    assert '"missing" not found' in found
    assert "'undefinedName' is not defined" in found


@pytest.mark.parametrize("folder", ["web", "clients/js"])
def test_the_scripts_of_the_console_and_the_client_have_neither(folder: str) -> None:
    assert "error" not in linted(ROOT / folder).lower()
