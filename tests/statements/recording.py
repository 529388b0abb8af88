"""Has this process and those that it starts record the statements that they send."""

import os
from pathlib import Path

from statements.statement_shapes import record_to

FOLDER = Path(__file__).parent


def begin_recording(path: Path) -> Path:
    """From now on, into this file."""
    path.touch()
    os.environ["RECORDED_STATEMENTS"] = str(path)
    os.environ["PYTHONPATH"] = with_recording(os.environ.get("PYTHONPATH", ""))
    record_to(path, all_are_shipped=False)
    return path


def with_recording(path: str) -> str:
    """The `PYTHONPATH` of a process that records, with what else it needs."""
    return os.pathsep.join(filter(None, (path, str(FOLDER))))


def recorded_shapes(path: Path) -> set[str]:
    """All shapes that were sent."""
    return set(path.read_text().splitlines())
