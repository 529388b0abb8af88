"""An optional profile of one service while it works: a flame graph of py-spy, where that is installed."""

import asyncio
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


class ProfilerMissing(Exception):
    """py-spy is not installed."""


@asynccontextmanager
async def profile(pid: int, path: Path) -> AsyncIterator[None]:
    """Samples a process while the body runs, and writes the flame graph (SVG)."""
    process = await asyncio.create_subprocess_exec(
        *(profiler_program(), "record", "--pid", str(pid), "--duration", "unlimited"),
        *("--nonblocking", "--output", str(path)),
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)  # it writes its file
        await process.wait()


def profiler_program() -> str:
    """The path of py-spy.

    Raises:
        ProfilerMissing: it is not installed.
    """
    program = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if program is None:
        raise ProfilerMissing("--profile: py-spy is not installed (pip install py-spy)")
    return program
