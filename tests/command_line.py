"""The command `tracking` as a process of its own."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from forked_services import ForkedChild, ready_fork_server
from tracking.devstack.processes import POLL_SECONDS, ChildProcess

READ_AT_START = ("PYTHON", "LANG", "LC_")
"""How the names of variables begin that Python reads at its start, which a forked process is past."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended, and what it said."""

    exit_code: int
    output: str
    errors: str


async def run(
    *arguments: str,
    seconds: float = 50,
    environment: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> Finished:
    """Runs `tracking` to its end. `environment` is added to that of this process. `stdin`: what stands in its
    standard input.
    """
    with TemporaryFile() as given, TemporaryFile() as output, TemporaryFile() as errors:
        given.write(stdin)
        given.seek(0)
        process = _start(arguments, environment or {}, given, output, errors)
        return Finished(await _exit_code(process, seconds), _content(output), _content(errors))


def _start(arguments: Sequence[str], added: Mapping[str, str], *files: IO[bytes]) -> Any:
    environment = {**os.environ, **added}
    numbers = [file.fileno() for file in files]
    if not any(name.startswith(READ_AT_START) for name in added.keys() - {"PYTHONPATH"}) and (
        server := ready_fork_server("tracking")
    ):
        return server.fork("tracking", *arguments, environment=environment, files=numbers)
    streams = dict(zip(("stdin", "stdout", "stderr"), numbers, strict=True))
    return subprocess.Popen([sys.executable, "-m", "tracking", *arguments], env=environment, **streams)


async def _exit_code(process: Any, seconds: float) -> int:
    """The exit code once it has ended. Kills it if that takes too long."""
    try:
        async with asyncio.timeout(seconds):
            while (code := process.poll()) is None:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(POLL_SECONDS)
            return int(code)
    finally:
        process.send_signal(signal.SIGKILL)


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def launch(*arguments: str, log_path: Path) -> ChildProcess:
    """Starts `tracking` and leaves it running."""
    if server := ready_fork_server("tracking"):
        return ForkedChild(
            server, "tracking", ["tracking", *arguments], environment=os.environ, log_path=log_path
        )
    program = [sys.executable, "-m", "tracking", *arguments]
    return ChildProcess("tracking", program, environment=os.environ, log_path=log_path)
