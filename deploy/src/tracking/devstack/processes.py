"""Child processes: started in their own process groups, killed when this process ends, stopped reliably."""

import asyncio
import os
import random
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tracking.errors import CommandError

if TYPE_CHECKING:
    import psutil

GRACE_SECONDS = 15.0
"""The time for a process to end after SIGTERM. A broker node with many queues needs most of it."""

KILL_SECONDS = 5.0
"""The time for the kernel to end a process after SIGKILL. One that takes longer hangs in a system call."""

POLL_SECONDS = 0.02

LOG_TAIL_BYTES = 8192

_PORTS = range(20_000, 32_000)
"""Below the ephemeral ports of Linux (32768 and up), so that no outgoing connection takes a free port before
its server has started."""


class DeadlineExceeded(CommandError):
    """A condition was not met in time."""


_MAX_RESERVED = 64
"""The ports that are reserved at a time. A stack takes ten and needs them within a minute."""

_reservations: deque[socket.socket] = deque()


def free_port(ports: Sequence[int] = _PORTS) -> int:
    """A port of 127.0.0.1 that is free now, and that no process of this machine was given shortly before.

    A server listens on its port only seconds after the choice, and nobody else may choose it meanwhile.
    """
    while True:
        port = random.choice(ports)
        if (reservation := _reserve(port)) is None:
            continue
        if is_port_free(port):
            _keep(reservation)
            return port
        reservation.close()


def _reserve(port: int) -> socket.socket | None:
    """A socket with a name that one process can have while it keeps it open. None: another one has it."""
    reservation = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        reservation.bind(f"\0tracking-port-{port}")
    except OSError:
        reservation.close()
        return None
    return reservation


def _keep(reservation: socket.socket) -> None:
    _reservations.append(reservation)
    if len(_reservations) > _MAX_RESERVED:
        _reservations.popleft().close()


def is_port_free(port: int) -> bool:
    """True if a server could listen on this port of 127.0.0.1."""
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
    """Returns when `condition` holds; checks it every `every` seconds.

    Raises:
        DeadlineExceeded: it did not hold within `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            while not await condition():  # noqa: ASYNC110 - the condition depends on other processes
                await asyncio.sleep(every)
    except TimeoutError:
        raise DeadlineExceeded(f"{what} within {seconds:g} s") from None


class ChildProcess:
    """One run of a program as a child process.

    The kernel kills the child when the thread that started it ends, for whatever reason. So start it from
    the main thread.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], *, environment: Mapping[str, str], log_path: Path
    ) -> None:
        self.name = name
        self.log_path = log_path
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = self._open(arguments, environment, log)

    def _open(
        self, arguments: Sequence[str], environment: Mapping[str, str], log: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *arguments],  # noqa: S607 - part of every Debian
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
        while (code := self._process.poll()) is None:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(POLL_SECONDS)
        return code

    async def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Stops it and its descendants: SIGTERM, then SIGKILL after `grace_seconds`."""
        family = descendants(self.pid)
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)  # a stopped process does not receive SIGTERM
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await self.wait()
        family |= descendants(self.pid)
        self.signal(signal.SIGKILL)
        await self.wait()
        await end_all(family)

    async def kill(self) -> None:
        """Kills it and its descendants with SIGKILL, as a crash would."""
        family = descendants(self.pid)
        self.signal(signal.SIGKILL)
        await self.wait()
        await end_all(family)

    def describe_exit(self) -> str:
        """Describes its end: the signal, or the exit code and the last line of its output."""
        code = self.exit_code
        if code is not None and code < 0:
            return signal.Signals(-code).name
        return f"code {code}: {self.last_line()[:300]}"

    def last_line(self) -> str:
        """The last line of its output, or "" without any."""
        with self.log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start if self._log_start <= size else 0, size - LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


class ProcessEnded(CommandError):
    """A process ended before it was ready. The message describes its end."""

    def __init__(self, process: ChildProcess) -> None:
        super().__init__(f"{process.name} ended ({process.describe_exit()})")
        self.process = process


async def ready(process: ChildProcess, condition: Callable[[], Awaitable[bool]], *, seconds: float) -> None:
    """Returns when `condition` holds while `process` runs.

    Raises:
        ProcessEnded: the process ended first.
        DeadlineExceeded: `condition` did not hold within `seconds`.
    """

    async def holds() -> bool:
        if process.exit_code is not None:
            raise ProcessEnded(process)
        return await condition()

    await wait_until(holds, seconds=seconds, what=f"{process.name} was not ready")


def descendants(pid: int) -> "set[psutil.Process]":
    """The children of a process, their children, and so on, without the process itself."""
    import psutil  # noqa: PLC0415 - the container image has the commands, but not psutil

    try:
        return set(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return set()


def is_running(process: "psutil.Process") -> bool:
    """True while the process runs. A zombie, and another process with a reused id, do not count."""
    import psutil  # noqa: PLC0415 - see descendants

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def end_all(processes: "set[psutil.Process]", grace_seconds: float = 1.0) -> None:
    """Waits `grace_seconds` for processes to end by themselves, then kills the others."""
    if await _have_ended(processes, grace_seconds):
        return
    for process in filter(is_running, processes):
        process.kill()
    await _have_ended(processes, KILL_SECONDS)


async def _have_ended(processes: "set[psutil.Process]", seconds: float) -> bool:
    async def ended() -> bool:
        return not any(map(is_running, processes))

    with suppress(DeadlineExceeded):
        await wait_until(ended, seconds=seconds, what="ended", every=POLL_SECONDS)
        return True
    return False
