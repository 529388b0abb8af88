"""An optional profile of one service while it works, with py-spy where that is installed."""

import asyncio
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

LINES = 15

_EXTRA_SECONDS = 2
"""py-spy writes its file when its time is up; a little longer than the load, to see all of it."""


class ProfilerMissing(Exception):
    """py-spy is not installed."""


class Profiler:
    """Samples one process during each measurement."""

    def __init__(self, service: str, pid: int, folder: Path) -> None:
        self._service = service
        self._pid = pid
        self._folder = folder
        self._program = profiler_program()
        self.reports: list[str] = []
        """For a person: the functions that took most, one report a measurement."""

    @asynccontextmanager
    async def record(self, name: str, seconds: float) -> AsyncIterator[None]:
        """Samples while the body runs, and adds a report. Stacks are kept in `<name>-<service>.folded`."""
        path = self._folder / f"{name}-{self._service}.folded"
        path.unlink(missing_ok=True)
        process = await asyncio.create_subprocess_exec(
            self._program,
            *("record", "--pid", str(self._pid), "--duration", str(int(seconds + _EXTRA_SECONDS))),
            *("--format", "raw", "--nonblocking", "--output", str(path)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield
            await process.wait()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if path.exists():
            self.reports.append(report_of(f"{name}: {self._service} ({path})", path.read_text()))


def profiler_program() -> str:
    """Where py-spy is.

    Raises:
        ProfilerMissing: nowhere.
    """
    beside_python = str(Path(sys.executable).parent)
    program = shutil.which("py-spy") or shutil.which("py-spy", path=beside_python)
    if program is None:
        raise ProfilerMissing("--profile: py-spy is not installed (pip install py-spy)")
    return program


def report_of(title: str, folded: str) -> str:
    """The heaviest functions of folded stacks (`frame;frame;frame samples`), by their own time, with the
    share of samples in which they were on the stack at all.
    """
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in folded.splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(samples)
        for frame in set(frames):
            within[frame] += int(samples)
    total = max(own.total(), 1)
    rows = [
        f"  {100 * samples / total:5.1f} % own  {100 * within[frame] / total:5.1f} % in  {frame}"
        for frame, samples in own.most_common(LINES)
    ]
    return "\n".join([title, *rows])
