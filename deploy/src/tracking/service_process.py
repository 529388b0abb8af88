"""One replica of a service as a child process: `python -m ingest` and its like, on a port of its own."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout

from tracking.part import Part
from tracking.processes import ChildProcess, free_port

PORT_VARIABLES = {
    "order_state": "ORDER_STATE_PORT",
    "ingest": "INGEST_PORT",
    "query": "QUERY_PORT",
    "notifier": "NOTIFIER_PORT",
}
"""Module of the service → the environment variable that says where it listens."""

_CHECK_TIMEOUT = ClientTimeout(total=3)


class ServiceProcess(Part):
    """A replica with its environment."""

    def __init__(
        self,
        module: str,
        *,
        environment: Mapping[str, str],
        logs: Path,
        port: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name or module, logs)
        self._module = module
        self._port = port or free_port()
        self._environment = {**os.environ, **environment, PORT_VARIABLES[module]: str(self._port)}

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def stream_url(self) -> str:
        """The WebSocket of a notifier."""
        return f"ws://127.0.0.1:{self._port}/v1/stream"

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

    def _new_process(self) -> ChildProcess:
        # Without -P a file of that name in the caller's folder would be run instead.
        arguments = [sys.executable, "-P", "-m", self._module]
        return ChildProcess(self.name, arguments, environment=self._environment, log_path=self.log_path)
