"""The three broker nodes: folders, cookie and names of their own, and the settings that are shipped."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import tracking
from cluster.network import ADDRESSES, Network
from tracking.devstack.processes import ChildProcess

USER, PASSWORD = "tracking", "a-password-of-the-tests"
PORT = 5672
START_SECONDS = 90.0
STOP_SECONDS = 60.0
CONTROL_SECONDS = 60.0
"""For one call of `rabbitmqctl`; a healthy one takes a second or two."""

SHIPPED = Path(tracking.__file__).resolve().parents[3] / "deploy/rabbitmq/rabbitmq.conf"

_OWN_SETTINGS = """
log.file = false
listeners.tcp.1 = {address}:5672
# The default of 512 MiB is what a server may keep in memory, not three nodes on one machine.
raft.wal_max_size_bytes = 67108864
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = rabbit@10.77.0.11
cluster_formation.classic_config.nodes.2 = rabbit@10.77.0.12
cluster_formation.classic_config.nodes.3 = rabbit@10.77.0.13
"""
_PARTITION_HANDLING = "cluster_partition_handling = pause_minority\n"
"""For each node, says operations.md; added where the shipped settings do not have it."""

# Prints the name of each AMQP client's connection, and the node that it is connected to.
_CONNECTIONS = """
lists:foreach(fun(L) ->
  P = proplists:get_value(client_properties, L, []),
  case lists:keyfind(<<"connection_name">>, 1, P) of
    {_, _, N} -> io:format("~s ~s~n", [N, node(proplists:get_value(pid, L))]);
    false -> ok
  end end, rabbit_networking:connection_info_all([pid, client_properties])).
"""

# Whether each node sees so many, and none was parted from another. One call: each costs a second.
_IS_WHOLE = """
lists:all(fun(N) ->
  length(rpc:call(N, rabbit_nodes, list_running, [])) =:= {nodes} andalso
  rpc:call(N, rabbit_node_monitor, partitions, []) =:= []
end, rabbit_nodes:list_running()).
"""

_MAKE_VHOST = """
ok = rabbit_vhost:add(<<"{name}">>, <<"tests">>),
rabbit_auth_backend_internal:set_permissions(
  <<"{user}">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"tests">>).
"""


class ControlFailed(Exception):
    """`rabbitmqctl` failed, or took too long."""


class Cluster:
    """The nodes 1, 2 and 3. `programs`: the folder that `deploy/setup_rabbitmq4` made."""

    def __init__(self, network: Network, programs: Path, data: Path) -> None:
        self.network = network
        self._programs = programs
        self._data = data
        self._servers: dict[int, ChildProcess] = {}
        self._name_services: dict[int, ChildProcess] = {}

    @property
    def release(self) -> str:
        """Such as `4.0.5`."""
        server = self._programs / "usr/lib/rabbitmq/bin/rabbitmq-server"
        return server.resolve().parents[1].name.removeprefix("rabbitmq_server-")

    def alive(self) -> list[int]:
        """The nodes whose process runs."""
        return [node for node, server in self._servers.items() if server.exit_code is None]

    async def start(self, *nodes: int) -> None:
        """Starts them at once, and returns when they take connections. One that ends is started again, as a
        supervisor does: with Khepri, a killed node of 4.0.5 fails at its first start (docs/rabbitmq.md).
        """
        for node in nodes:
            self._launch(node)
        for node in nodes:
            await self._takes_connections(node)

    async def kill(self, node: int) -> None:
        """SIGKILL, as the crash of a machine."""
        await self._servers[node].kill()

    async def stop(self, node: int) -> None:
        """SIGTERM: the clean stop."""
        await self._servers[node].stop(STOP_SECONDS)

    def freeze(self, node: int) -> None:
        """SIGSTOP: it holds its connections and answers nothing."""
        self._servers[node].signal(signal.SIGSTOP)

    def wake(self, node: int) -> None:
        """SIGCONT."""
        self._servers[node].signal(signal.SIGCONT)

    def wipe(self, node: int) -> None:
        """Removes all that a node keeps. It must not run."""
        shutil.rmtree(self._folder(node) / "mnesia")

    async def control(self, node: int, *arguments: str, tool: str = "rabbitmqctl") -> str:
        """What the command line tool prints, run beside a node.

        Raises:
            ControlFailed: it failed, or took longer than `CONTROL_SECONDS`.
        """
        program = str(self._programs / "usr/lib/rabbitmq/bin" / tool)
        process = await asyncio.create_subprocess_exec(
            *self.network.enter(node),
            program,
            "--quiet",
            *arguments,
            env=self._environment(node),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(CONTROL_SECONDS):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise ControlFailed(f"{tool} {arguments[0]}: no answer in {CONTROL_SECONDS:g} s") from None
        if process.returncode:
            raise ControlFailed(f"{tool} {' '.join(arguments)}: {output.decode()[-500:]}")
        return output.decode()

    async def queues(self, vhost: str) -> list[dict[str, Any]]:
        """The quorum queues of a virtual host: name, leader, members, online."""
        columns = ("name", "type", "leader", "members", "online", "--formatter", "json")
        output = await self.control(self.alive()[0], "list_queues", "-p", vhost, *columns)
        return [queue for queue in json.loads(output) if queue["type"] == "quorum" and queue["members"]]

    async def connections(self) -> Mapping[int, Counter[str]]:
        """Names of connections, by node."""
        found: dict[int, Counter[str]] = {node: Counter() for node in ADDRESSES}
        for line in (await self.control(self.alive()[0], "eval", _CONNECTIONS)).splitlines():
            name, _, node = line.rpartition(" ")
            with suppress(StopIteration):
                found[_number_of(node)][name] += 1
        return found

    async def is_whole(self) -> bool:
        """Whether each node runs, sees all three, and was not parted from one whose metadata is other now."""
        if len(self.alive()) < len(ADDRESSES):
            return False
        try:
            seen = await self.control(1, "eval", _IS_WHOLE.format(nodes=len(ADDRESSES)))
        except ControlFailed:
            return False
        return seen.strip() == "true"

    async def keep_metadata_in_khepri(self) -> None:
        """As RabbitMQ 4.2 and later do. With Mnesia, a node that was frozen can keep metadata of its own
        until somebody restarts it.
        """
        await self.control(1, "enable_feature_flag", "--experimental", "khepri_db")

    async def make_user(self) -> None:
        """The administrator that the services connect as."""
        await self.control(1, "add_user", USER, PASSWORD)
        await self.control(1, "set_user_tags", USER, "administrator")

    async def make_vhost(self, name: str) -> None:
        """A virtual host that the user may do everything in."""
        made = await self.control(1, "eval", _MAKE_VHOST.format(name=name, user=USER))
        if made.strip() != "ok":
            raise ControlFailed(f"virtual host {name}: {made[-500:]}")

    def _folder(self, node: int) -> Path:
        return self._data / f"node-{node}"

    def _launch(self, node: int) -> None:
        self._configure(node)
        names = self._name_services.get(node)
        if names is None or names.exit_code is not None:
            epmd = [str(self._programs / "bin/epmd"), "-port", "4369"]
            if not Path(epmd[0]).exists():
                epmd[0] = "epmd"
            self._name_services[node] = self._child(node, "epmd", epmd)
        if node not in self.alive():
            server = str(self._programs / "usr/lib/rabbitmq/bin/rabbitmq-server")
            self._servers[node] = self._child(node, "server", [server])

    def _child(self, node: int, name: str, arguments: list[str]) -> ChildProcess:
        log = self._folder(node) / f"{name}.log"
        arguments = [*self.network.enter(node), *arguments]
        return ChildProcess(f"{name}-{node}", arguments, environment=self._environment(node), log_path=log)

    async def _takes_connections(self, node: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(ADDRESSES[node], PORT), 2)
            except (OSError, TimeoutError):
                if time.monotonic() > deadline:
                    last = self._servers[node].last_line()
                    raise ControlFailed(f"node {node} did not start: {last}") from None
                self._launch(node)
                await asyncio.sleep(0.2)
            else:
                writer.close()
                return

    def _configure(self, node: int) -> None:
        folder = self._folder(node)
        (folder / "home").mkdir(parents=True, exist_ok=True)
        cookie = folder / "home/.erlang.cookie"
        if not cookie.exists():
            cookie.write_text("COOKIEOFTHETESTS")
            cookie.chmod(0o400)
        shipped = SHIPPED.read_text()
        handling = "" if "\ncluster_partition_handling" in shipped else _PARTITION_HANDLING
        own = _OWN_SETTINGS.format(address=ADDRESSES[node])
        (folder / "rabbitmq.conf").write_text(shipped + own + handling)
        advanced = SHIPPED.with_name("advanced.config")
        if advanced.exists():
            shutil.copy(advanced, folder / "advanced.config")
        (folder / "enabled_plugins").write_text("[].\n")

    def _environment(self, node: int) -> dict[str, str]:
        folder = self._folder(node)
        own = {"RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config")}
        return (own if SHIPPED.with_name("advanced.config").exists() else {}) | {
            "PATH": f"{self._programs}/bin:{os.environ.get('PATH', os.defpath)}",
            "LANG": "C.UTF-8",
            "HOME": str(folder / "home"),
            "RABBITMQ_NODENAME": f"rabbit@{ADDRESSES[node]}",
            "RABBITMQ_USE_LONGNAME": "true",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_LOG": "-color",
            # Busy-waiting schedulers would take the cores from the services.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
            "RABBITMQ_CTL_ERL_ARGS": "-start_epmd false",
            "ERL_FLAGS": "-start_epmd false",
            # The start script becomes the Erlang machine, so that signals reach the node itself.
            "RUNNING_UNDER_SYSTEMD": "true",
        }


def _number_of(node: str) -> int:
    return next(number for number, address in ADDRESSES.items() if node.strip("'\"").endswith(address))


def leader_of(queues: list[dict[str, Any]]) -> int:
    """The node that leads most of these queues."""
    return _number_of(Counter(queue["leader"] for queue in queues).most_common(1)[0][0])
