"""One replica of a service as a child process: `python -m ingest` and its like, on a port of its own."""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout

from tracking.processes import ChildProcess, free_port, ready

START_SECONDS = 60.0
"""A service is up in about a second; declaring and indexing on a loaded machine takes longer."""

PORT_VARIABLES = {
    "order_state": "ORDER_STATE_PORT",
    "ingest": "INGEST_PORT",
    "query": "QUERY_PORT",
    "notifier": "NOTIFIER_PORT",
}
"""Module of the service → the environment variable that says where it listens."""

_CHECK_TIMEOUT = ClientTimeout(total=3)


class ServiceProcess:
    """A replica with its environment. Start, stop, kill and restart it as often as needed."""

    def __init__(
        self,
        module: str,
        *,
        environment: Mapping[str, str],
        logs: Path,
        port: int | None = None,
        name: str | None = None,
    ) -> None:
        self.name = name or module
        self._module = module
        self._port = port or free_port()
        self._environment = {**os.environ, **environment, PORT_VARIABLES[module]: str(self._port)}
        self._logs = logs
        self._process: ChildProcess | None = None

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def stream_url(self) -> str:
        """The WebSocket of a notifier."""
        return f"ws://127.0.0.1:{self._port}/v1/stream"

    @property
    def processes(self) -> list[ChildProcess]:
        """The one process; empty before the start."""
        return [self._process] if self._process else []

    @property
    def process(self) -> ChildProcess:
        """The newest process of this replica, which must have been started."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process

    @property
    def pid(self) -> int:
        """The process id of the newest process."""
        return self.process.pid

    @property
    def log_path(self) -> Path:
        """Where everything goes that it writes."""
        return self._logs / f"{self.name}.log"

    def launch(self) -> ChildProcess:
        """Starts it if it does not run, without waiting for it to be ready."""
        if self._process is None or self._process.exit_code is not None:
            self._process = ChildProcess(
                self.name,
                [sys.executable, "-m", self._module],
                environment=self._environment,
                log_path=self.log_path,
            )
        return self._process

    async def start(self) -> None:
        """Starts it and returns when `/readyz` says that its dependencies answer.

        Raises:
            ProcessEnded: it ended instead, for example for a wrong configuration.
            DeadlineExceeded: it did not become ready within `START_SECONDS`.
        """
        await ready(self.launch(), self.is_ready, seconds=START_SECONDS)

    async def is_ready(self) -> bool:
        """Whether `/readyz` answers 200 now."""
        try:
            async with (
                ClientSession(timeout=_CHECK_TIMEOUT) as session,
                session.get(f"{self.url}/readyz") as response,
            ):
                return response.status == 200
        except (ClientError, TimeoutError):
            return False

    async def stop(self) -> None:
        """Stops it cleanly, or with SIGKILL where it does not listen."""
        for process in self.processes:
            await process.stop()

    async def kill(self) -> None:
        """Kills it as a crash would."""
        for process in self.processes:
            await process.kill()

    async def restart(self) -> None:
        """Stops and starts it."""
        await self.stop()
        await self.start()

    def pause(self) -> None:
        """Freezes it (SIGSTOP): its connections stay open and nothing happens."""
        self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """The reverse of `pause`."""
        self.process.signal(signal.SIGCONT)
