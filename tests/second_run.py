"""Runs the tests that failed once more, one after the other, after a run on several processes.

A machine that is too busy fails a test that waits for something; a fault fails it again. Only a few are tried
again: more are no accident. Those that pass now are named: each is a defect, of the test or of what it tests.
"""

import json
import subprocess
import sys
from pathlib import Path

MAX_TRIED_AGAIN = 3
FAILED = Path(".pytest_cache/v/cache/lastfailed")
"""Written by pytest at the end of a run."""


def failed_tests() -> list[str]:
    """The ids of the tests that failed in the last run."""
    return sorted(json.loads(FAILED.read_text())) if FAILED.exists() else []


def main() -> int:
    """Returns the exit code for the shell: 0 if all passed now, else 1."""
    failed = failed_tests()
    if not 0 < len(failed) <= MAX_TRIED_AGAIN:
        return 1
    print(f"\nonce more, alone: {', '.join(failed)}", flush=True)
    if subprocess.run([sys.executable, "-m", "pytest", *failed], check=False).returncode:
        return 1
    for test in failed:
        print(f"UNSTABLE: {test} failed beside others and passed alone: see CONTRIBUTING.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
