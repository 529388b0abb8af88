"""Replicas of services as child processes, each on its own port, and their settings for the console."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout

from tracking.devstack.component import Component
from tracking.devstack.processes import ChildProcess, free_port
from tracking.devstack.tokens import mint_token

PORT_VARIABLES = {
    "order_state": "ORDER_STATE_PORT",
    "ingest": "INGEST_PORT",
    "query": "QUERY_PORT",
    "notifier": "NOTIFIER_PORT",
    "webhooks": "WEBHOOKS_PORT",
}
"""Service → the environment variable with its port."""

MODULES = {service: f"tracking_{service}" for service in PORT_VARIABLES}
"""Service → the module to run."""

CONSOLE_FOLDER = Path(__file__).resolve().parents[4] / "web" / "console"
"""The console in the source tree, which the development stack runs from."""

DEMO_TOKEN_SECONDS = 24 * 3600

_CHECK_TIMEOUT = ClientTimeout(total=3)


class ServiceProcess(Component):
    """A replica of a service: `python -m tracking_ingest`, for example."""

    def __init__(
        self,
        service: str,
        *,
        environment: Mapping[str, str],
        logs: Path,
        port: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name or service, logs)
        self._module = MODULES.get(service, service)
        self._port = port or free_port()
        self._environment = {**os.environ, **environment, PORT_VARIABLES[service]: str(self._port)}

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def stream_url(self) -> str:
        """The WebSocket URL of a notifier."""
        return f"ws://127.0.0.1:{self._port}/v1/stream"

    async def is_ready(self) -> bool:
        """Checks that `/readyz` answers 200 now."""
        try:
            async with (
                ClientSession(timeout=_CHECK_TIMEOUT) as session,
                session.get(f"{self.url}/readyz") as response,
            ):
                return response.status == 200
        except (ClientError, TimeoutError):
            return False

    def _new_process(self) -> ChildProcess:
        # -P: a file of that name in the current folder must not be run instead.
        arguments = [sys.executable, "-P", "-m", self._module]
        return ChildProcess(self.name, arguments, environment=self._environment, log_path=self.log_path)


def console_settings(
    ports: dict[str, int], jwt_secret: str, *, signed_in: bool, allowed_origins: Sequence[str] = ()
) -> dict[str, str]:
    """The settings of the services for the console: its folder, the public URLs, and the allowed origins.

    `ports` is by service. `signed_in`: each reader of the console gets an operator's token for a day.
    `allowed_origins` are added to `ALLOWED_ORIGINS` of the environment and to the console's own. Without the
    console's folder, only the origins are set.
    """
    given = [*filter(None, [os.environ.get("ALLOWED_ORIGINS")]), *allowed_origins]
    if not CONSOLE_FOLDER.is_dir():
        return {"ALLOWED_ORIGINS": ",".join(given)} if given else {}
    own = [f"http://{host}:{ports['query']}" for host in ("127.0.0.1", "localhost")]
    environment = {
        "CONSOLE_DIR": str(CONSOLE_FOLDER),
        "PUBLIC_INGEST_URL": f"http://127.0.0.1:{ports['ingest']}",
        "PUBLIC_STREAM_URL": f"ws://127.0.0.1:{ports['notifier']}/v1/stream",
        "ALLOWED_ORIGINS": ",".join([*given, *own]),
    }
    if signed_in:
        environment["CONSOLE_DEMO_TOKEN"] = _operator_token(jwt_secret)
    return environment


def _operator_token(jwt_secret: str) -> str:
    return mint_token(
        jwt_secret,
        subject="demo-operator",
        source_type="operator",
        scope="orders:write orders:read orders:correct",
        merchants=["*"],
        ttl_seconds=DEMO_TOKEN_SECONDS,
    )
