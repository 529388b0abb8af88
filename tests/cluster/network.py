"""Network namespaces: one for the services and the database, one for each broker node, joined by a bridge.

Nothing of it touches the network of the machine. Needs root, `ip` and `iptables`.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "tracking-cluster"
HOST_ADDRESS = "10.77.0.1"
"""Of the namespace of the services."""
ADDRESSES = {1: "10.77.0.11", 2: "10.77.0.12", 3: "10.77.0.13"}
"""Of the nodes."""
COMMAND_SECONDS = 10.0


class CommandFailed(Exception):
    """A command that is needed failed. The message has the command and what it printed."""


def run(*arguments: str) -> str:
    """What the command printed.

    Raises:
        CommandFailed: it is missing, failed, or took longer than `COMMAND_SECONDS`.
    """
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True)
    except subprocess.CalledProcessError as error:
        raise CommandFailed(f"{' '.join(arguments)}: {error.stdout}{error.stderr}".strip()) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandFailed(f"{' '.join(arguments)}: {error}") from error
    return done.stdout


class Network:
    """The namespaces of one run, which is named by the process that began it."""

    def __init__(self, owner: int) -> None:
        self._owner = owner

    def namespace(self, node: int) -> str:
        """Of a node; 0 is that of the services."""
        return f"{PREFIX}-{self._owner}-{node}"

    def enter(self, node: int) -> list[str]:
        """What to put before a command that shall run there."""
        return ["ip", "netns", "exec", self.namespace(node)]

    def link(self, node: int, *, up: bool) -> None:
        """Cuts a node from everybody, or joins it again. Packets vanish; nobody is told."""
        run("ip", "-n", self.namespace(0), "link", "set", f"to{node}", "up" if up else "down")

    def drop(self, node: int, others: list[str], *, cut: bool) -> None:
        """Between a node and these addresses packets vanish, in both directions, or no longer do."""
        for address in others:
            for chain, way in (("INPUT", "-s"), ("OUTPUT", "-d")):
                change = "-A" if cut else "-D"
                run(*self.enter(node), "iptables", change, chain, way, address, "-j", "DROP")

    def make(self) -> None:
        """Creates all of it."""
        hub = self.namespace(0)
        run("ip", "netns", "add", hub)
        run("ip", "-n", hub, "link", "set", "lo", "up")
        run("ip", "-n", hub, "link", "add", "hub", "type", "bridge")
        run("ip", "-n", hub, "addr", "add", f"{HOST_ADDRESS}/24", "dev", "hub")
        run("ip", "-n", hub, "link", "set", "hub", "up")
        for node, address in ADDRESSES.items():
            self._add(node, address)

    def _add(self, node: int, address: str) -> None:
        hub, name = self.namespace(0), self.namespace(node)
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        end = ("type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "add", f"to{node}", "netns", hub, *end)
        run("ip", "-n", hub, "link", "set", f"to{node}", "master", "hub", "up")
        run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "eth0", "up")


@contextmanager
def network() -> Iterator[Network]:
    """The namespaces while the body runs. Afterwards every process in them is killed, and they are gone.

    Those that an earlier run left behind because it was killed go first.
    """
    for name in _names():
        owner = name.removeprefix(f"{PREFIX}-").partition("-")[0]
        if not Path(f"/proc/{owner}").exists():
            _remove(name)
    made = Network(os.getpid())
    try:
        made.make()
        yield made
    finally:
        for node in (*ADDRESSES, 0):
            _remove(made.namespace(node))


def _names() -> list[str]:
    lines = run("ip", "netns", "list").splitlines()
    return [line.split()[0] for line in lines if line.startswith(f"{PREFIX}-")]


def _remove(name: str) -> None:
    with suppress(CommandFailed):
        for pid in map(int, run("ip", "netns", "pids", name).split()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run("ip", "netns", "del", name)
