"""Tests that failed run once more: few of them, and what fails again fails the run."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[1] / "second_run.py"
UNSTABLE = """
from pathlib import Path

def test_of_the_second_try():
    first = not Path("tried").exists()
    Path("tried").touch()
    assert not first
"""
BROKEN = "def test_broken():\n    assert False\n"
MANY_BROKEN = "".join(f"def test_broken_{number}():\n    assert False\n" for number in range(4))


def run_twice(folder: Path, tests: str) -> tuple[int, str]:
    """The exit code and the output of the second run of a file of failing tests."""
    (folder / "test_some.py").write_text(tests)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # loading them takes longer than the tests
    first = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"], cwd=folder, env=environment, check=False, timeout=60
    )
    assert first.returncode == 1
    second = subprocess.run(
        [sys.executable, PROGRAM],
        cwd=folder,
        env=environment,
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
    )
    return second.returncode, second.stdout


def test_one_that_passes_alone_is_named(tmp_path: Path) -> None:
    code, output = run_twice(tmp_path, UNSTABLE)
    assert code == 0
    assert "UNSTABLE: test_some.py::test_of_the_second_try" in output


def test_one_that_fails_again_fails_the_run(tmp_path: Path) -> None:
    code, output = run_twice(tmp_path, BROKEN)
    assert code == 1
    assert "UNSTABLE" not in output


def test_more_than_a_few_are_not_tried_again(tmp_path: Path) -> None:
    code, output = run_twice(tmp_path, MANY_BROKEN)
    assert code == 1
    assert "once more" not in output


def test_without_a_failed_test_the_run_failed_for_something_else(tmp_path: Path) -> None:
    second = subprocess.run([sys.executable, PROGRAM], cwd=tmp_path, check=False, timeout=60)
    assert second.returncode == 1
