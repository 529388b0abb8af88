"""Services and commands that tests start by forking a process which has imported them already.

Imports take nine tenths of the processor time of a start, and the tests start services hundreds of times. A
start before the module's fork server is ready is one as in production.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import orjson

from tracking.devstack.processes import ChildProcess
from tracking.devstack.service_process import ServiceProcess

FORK_SERVER = Path(__file__).with_name("fork_server.py")

PRELOADED = {
    "tracking_ingest": ("tracking_ingest.app",),
    "tracking_order_state": ("tracking_order_state.app",),
    "tracking_notifier": ("tracking_notifier.app",),
    "tracking_query": ("tracking_query.app",),
    "tracking_webhooks": ("tracking_webhooks.app",),
    "faulty_order_state": ("tracking_order_state.app",),
    "adapter": ("asyncio", "orjson", "tracking_client.live_orders"),
    "tracking": tuple(
        f"tracking.cli.{name}"
        for name in ("load_command", "main", "order_commands", "token_commands", "upkeep_commands")
    ),
}
"""Module to run → what its fork server has imported. Services do not share one: a process exports all metrics
that were imported into it."""

END_SECONDS = 10


class ForkServer:
    """A fork server as a process, from the side of the tests."""

    def __init__(self, *preloaded: str) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        program = [sys.executable, "-P", str(FORK_SERVER), str(theirs.fileno()), *preloaded]
        with theirs:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *program],  # noqa: S607 - part of every Debian
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[theirs.fileno()],
            )
        self._has_imported = False

    def is_ready(self) -> bool:
        """Whether it has imported the service and still runs."""
        if not self._has_imported:
            with suppress(BlockingIOError):
                self._has_imported = bool(self._control.recv(1))
        return self._has_imported and self._process.poll() is None

    def fork(
        self, module: str, *arguments: str, environment: Mapping[str, str], files: Sequence[int]
    ) -> "Copy":
        """Starts a copy that runs this module. `files`: its standard input, output and error."""
        order = {"module": module, "arguments": arguments, "environment": dict(environment)}
        here, report = os.pipe()
        try:
            socket.send_fds(self._control, [orjson.dumps(order)], [*files, report])
        finally:
            os.close(report)
        return Copy(here)

    def end(self) -> None:
        """Ends it, and all its copies that still run."""
        self._control.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:  # it still imports
            self._process.kill()
            self._process.wait()


class Copy:
    """A process of a fork server: as much of `subprocess.Popen` as `ChildProcess` uses."""

    def __init__(self, report: int) -> None:
        self._report = report
        self._exit_code: int | None = None
        self.pid = int.from_bytes(os.read(report, 4))
        os.set_blocking(report, False)

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self._exit_code is None:
            with suppress(BlockingIOError):
                told = os.read(self._report, 4)
                # Without a report the server has ended, and the kernel has killed its copies.
                self._exit_code = int.from_bytes(told, signed=True) if told else -signal.SIGKILL
                os.close(self._report)
        return self._exit_code

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class ForkedChild(ChildProcess):
    """A child process that is forked. Its arguments are the module to run, and those of the module."""

    def __init__(self, server: ForkServer, *arguments: Any, **options: Any) -> None:
        self._server = server
        super().__init__(*arguments, **options)

    def _open(self, arguments: Any, environment: Mapping[str, str], log: IO[bytes]) -> Any:
        with Path(os.devnull).open("rb") as nothing:
            files = [nothing.fileno(), log.fileno(), log.fileno()]
            return self._server.fork(*arguments, environment=environment, files=files)


class ForkedService(ServiceProcess):
    """A replica of a service, forked if its fork server is ready, else started as in production."""

    def _new_process(self) -> ChildProcess:
        server = ready_fork_server(self._module)
        if server is None:
            return super()._new_process()
        return ForkedChild(
            server, self.name, [self._module], environment=self._environment, log_path=self.log_path
        )


_servers: dict[tuple[str, ...], ForkServer] = {}


def ready_fork_server(module: str) -> ForkServer | None:
    """The fork server for this module, if it is ready. It is started if there is none yet."""
    preloaded = PRELOADED.get(module)
    if preloaded is None or "RECORDED_STATEMENTS" in os.environ:  # recording begins at the start of a process
        return None
    if preloaded not in _servers:
        _servers[preloaded] = ForkServer(*preloaded)
    server = _servers[preloaded]
    return server if server.is_ready() else None


def begin_fork_servers() -> None:
    """Starts those of the services that most tests need: they import while the broker starts."""
    for service in ("order_state", "ingest", "query", "notifier"):
        ready_fork_server(f"tracking_{service}")


def end_fork_servers() -> None:
    """Ends all of this process."""
    while _servers:
        _servers.popitem()[1].end()
