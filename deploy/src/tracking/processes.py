"""Child processes: started in a group of their own, tied to the life of this process, ended for certain."""

import asyncio
import os
import random
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

GRACE_SECONDS = 15.0
"""How long a process may take to end after SIGTERM. A broker node with many queues needs most of it."""

KILL_SECONDS = 5.0
"""How long the kernel may take to end a process after SIGKILL; longer, and it hangs in a system call."""

POLL_SECONDS = 0.02

LOG_TAIL_BYTES = 8192

_PORTS = range(20_000, 32_000)
"""Below the range from which Linux takes the ports of outgoing connections (32768 and up), so that a
free port does not become somebody's client port before its server has started."""


class DeadlineExceeded(Exception):
    """What was waited for did not happen in time."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    while True:
        port = random.choice(_PORTS)
        if is_port_free(port):
            return port


def is_port_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def wait_until(
    condition: Callable[[], Awaitable[bool]], *, seconds: float, what: str, every: float = 0.1
) -> None:
    """Returns when `condition` holds; asks again every `every` seconds.

    Raises:
        DeadlineExceeded: it did not hold within `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            while not await condition():  # noqa: ASYNC110 - it lies in other processes
                await asyncio.sleep(every)
    except TimeoutError:
        raise DeadlineExceeded(f"{what} within {seconds:g} s") from None


class ChildProcess:
    """One program as a child. Not restartable: make another one.

    The kernel kills the child when the thread that started it ends (so start it from the main
    thread), however that end came about.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], *, environment: Mapping[str, str], log_path: Path
    ) -> None:
        self.name = name
        self.log_path = log_path
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *arguments],  # noqa: S607 - every Debian has it
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id; also that of its group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; the negative signal number if a signal ended it."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process itself. Nothing happens if it has ended."""
        self._process.send_signal(number)

    async def wait(self) -> int:
        """Returns the exit code when the process has ended."""
        while (code := self._process.poll()) is None:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(POLL_SECONDS)
        return code

    async def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Ends it and everything that it started: SIGTERM, then SIGKILL after `grace_seconds`."""
        family = descendants(self.pid)
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)  # a stopped process would not see the first one
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await self.wait()
        family |= descendants(self.pid)
        self.signal(signal.SIGKILL)
        await self.wait()
        await end_all(family)

    async def kill(self) -> None:
        """Ends it and everything that it started with SIGKILL, as a crash would."""
        family = descendants(self.pid)
        self.signal(signal.SIGKILL)
        await self.wait()
        await end_all(family)

    def describe_exit(self) -> str:
        """How it ended, for a person: the signal, or the code and its last words."""
        code = self.exit_code
        if code is not None and code < 0:
            return signal.Signals(-code).name
        return f"code {code}: {self.last_line()[:300]}"

    def last_line(self) -> str:
        """The last line that it wrote, or "" if it wrote nothing."""
        with self.log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start if self._log_start <= size else 0, size - LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


class ProcessEnded(Exception):
    """A process ended before it was ready. The message says how."""

    def __init__(self, process: ChildProcess) -> None:
        super().__init__(f"{process.name} ended ({process.describe_exit()})")
        self.process = process


async def ready(process: ChildProcess, condition: Callable[[], Awaitable[bool]], *, seconds: float) -> None:
    """Returns when `condition` holds while `process` runs.

    Raises:
        ProcessEnded: the process ended first.
        DeadlineExceeded: neither happened within `seconds`.
    """

    async def holds() -> bool:
        if process.exit_code is not None:
            raise ProcessEnded(process)
        return await condition()

    await wait_until(holds, seconds=seconds, what=f"{process.name} was not ready")


ProcessIdentity = tuple[int, int]
"""Process id and start time: an id alone may have been given to another process meanwhile."""


def descendants(pid: int) -> set[ProcessIdentity]:
    """Children of a process, their children, and so on, without itself."""
    parents = {identity: parent for identity, parent in map(_parentage, _all_pids()) if identity}
    found: set[ProcessIdentity] = set()
    generation = {pid}
    while generation:
        children = {i for i, parent in parents.items() if parent in generation and i not in found}
        found |= children
        generation = {child for child, _ in children}
    return found


async def end_all(family: set[ProcessIdentity], grace_seconds: float = 1.0) -> None:
    """Waits a moment for processes to end by themselves, then kills those that did not."""
    if await _gone(family, grace_seconds):
        return
    for pid, _ in filter(is_running, family):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await _gone(family, KILL_SECONDS)


async def _gone(family: set[ProcessIdentity], seconds: float) -> bool:
    async def gone() -> bool:
        return not any(map(is_running, family))

    with suppress(DeadlineExceeded):
        await wait_until(gone, seconds=seconds, what="ended", every=POLL_SECONDS)
        return True
    return False


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _parentage(pid: int) -> tuple[ProcessIdentity | None, int]:
    fields = _stat_fields(pid)
    return ((pid, int(fields[19])), int(fields[1])) if fields else (None, 0)


def is_running(identity: ProcessIdentity) -> bool:
    """Whether this very process still runs (a zombie does not)."""
    fields = _stat_fields(identity[0])
    return bool(fields) and int(fields[19]) == identity[1] and fields[0] != "Z"


def _stat_fields(pid: int) -> list[str]:
    # From the third field on (proc(5)): the second one, the name, may hold spaces and parentheses.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
