"""A private RabbitMQ node: data folder, ports, cookie and name service of its own."""

import asyncio
import os
import subprocess
from pathlib import Path

from tracking.devstack.component import Component
from tracking.devstack.processes import ChildProcess, free_port, is_port_free
from tracking.errors import CommandError
from tracking_shared.messaging.connection import connect
from tracking_shared.messaging.errors import BrokerUnavailable

DEFAULT_BIN = "/usr/lib/rabbitmq/bin"
"""The programs of Debian's package that run as the calling user. `RABBITMQ_BIN` overrides it."""

_CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
log.console = true
log.file = false
log.console.level = warning
# The default of 512 MiB suits a machine that runs nothing else.
raft.wal_max_size_bytes = 67108864
"""

# Busy-waiting schedulers would take the cores from the services.
_ERLANG_ARGUMENTS = "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none"


class BrokerMissing(CommandError):
    """RabbitMQ is not installed on this machine."""


def broker_programs() -> Path:
    """The folder of RabbitMQ's programs.

    Raises:
        BrokerMissing: there is no `rabbitmq-server` in it.
    """
    folder = Path(os.environ.get("RABBITMQ_BIN", DEFAULT_BIN))
    if not (folder / "rabbitmq-server").is_file():
        raise BrokerMissing(
            f"rabbitmq-server: not found in {folder}; run `make setup`, or set AMQP_URL to use another broker"
        )
    return folder


def broker_release() -> str:
    """The release in `broker_programs`, such as `4.0.5`, taken from the name of its folder.

    Raises:
        BrokerMissing: RabbitMQ is not installed.
    """
    home = (broker_programs() / "rabbitmq-server").resolve().parents[1]
    return home.name.removeprefix("rabbitmq_server-")


class BrokerNode(Component):
    """The broker with its own Erlang name service (epmd), which the server would otherwise leave running."""

    def __init__(self, data: Path, *, port: int | None = None, logs: Path | None = None) -> None:
        super().__init__("broker", logs or data)
        self._programs = broker_programs()
        self._data = data.absolute()
        self._port = port or free_port()
        self.epmd_port = free_port()
        """The port of the name service."""
        self._distribution_port = free_port()
        self._epmd: ChildProcess | None = None

    @property
    def url(self) -> str:
        """The AMQP URL of the default virtual host. Append a name for another virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self._port}/"

    @property
    def processes(self) -> list[ChildProcess]:
        """The name service and the server."""
        return [*([self._epmd] if self._epmd else []), *super().processes]

    def launch(self) -> None:
        """Starts each process that does not run, the name service first."""
        self._write_configuration()
        if self._epmd is None or self._epmd.exit_code is not None:
            self._epmd = self._child("epmd", ["epmd", "-address", "127.0.0.1", "-port", str(self.epmd_port)])
        super().launch()

    async def is_ready(self) -> bool:
        """Checks that it accepts connections."""
        if is_port_free(self._port):
            return False  # the AMQP client would log each attempt
        try:
            async with connect(self.url, "readiness"):
                return True
        except BrokerUnavailable:
            return False

    async def control(self, *arguments: str) -> str:
        """Runs `rabbitmqctl` with these arguments and returns its output.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        process = await asyncio.create_subprocess_exec(
            self._programs / "rabbitmqctl",
            "--quiet",
            *arguments,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        output, errors = await process.communicate()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, "rabbitmqctl", output, errors)
        return output.decode()

    def _new_process(self) -> ChildProcess:
        return self._child(self.name, [str(self._programs / "rabbitmq-server")])

    def _child(self, name: str, arguments: list[str]) -> ChildProcess:
        log_path = self.log_path.with_name(f"{name}.log")
        return ChildProcess(name, arguments, environment=self._environment(), log_path=log_path)

    def _write_configuration(self) -> None:
        (self._data / "home").mkdir(parents=True, exist_ok=True)
        (self._data / "rabbitmq.conf").write_text(_CONFIGURATION.format(port=self._port))
        (self._data / "enabled_plugins").write_text("[].\n")

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(self._data / "home"),
            "RABBITMQ_NODENAME": "tracking@localhost",
            "RABBITMQ_CONFIG_FILE": str(self._data / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_MNESIA_BASE": str(self._data / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._data / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._data / "enabled_plugins"),
            "RABBITMQ_LOG": "-color",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG_ARGUMENTS,
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # Otherwise the server and `rabbitmqctl` would each start a name service where none answers, and
            # leave it running.
            "ERL_FLAGS": "-start_epmd false",
            # `rabbitmqctl` of RabbitMQ 4 overwrites ERL_FLAGS with this variable.
            "RABBITMQ_CTL_ERL_ARGS": "-start_epmd false",
            # Has the start script exec the Erlang machine, so that signals, and the end of this process,
            # reach the node itself.
            "RUNNING_UNDER_SYSTEMD": "true",
        }
