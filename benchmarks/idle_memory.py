"""What an idle dashboard costs the server: memory for a connection on which nothing happens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from benchmarks.crowd import Crowd
from benchmarks.load_process import Result, Run, serve_load
from benchmarks.measurement import Measurement
from benchmarks.socket_client import Door, notifier_door, subscribe_request
from benchmarks.stack_under_test import StackUnderTest
from benchmarks.ws_peer import start_peer

CONNECTIONS = 2000

SETTLE_SECONDS = 1.0
"""For what is left of the handshakes to go."""

PLANNED_SECONDS = 10.0


@dataclass(frozen=True)
class Parameters:
    """What the load process is told. Without a peer's port, the notifier is meant."""

    notifier_url: str
    token: str
    connections: int
    peer_port: int = 0


async def measure(stack: StackUnderTest) -> Measurement:
    """The growth of the notifier. Before anything else: memory that it has had before is not seen."""
    wanted = asdict(Parameters(stack.notifier_url, stack.token(), CONNECTIONS))
    measured = await stack.measure("idle-memory", __name__, wanted, PLANNED_SECONDS)
    return measured.with_memory_of("notifier")


async def measure_peer(stack: StackUnderTest) -> Measurement:
    """The growth of the peer."""
    async with start_peer() as peer:
        wanted = asdict(Parameters(stack.notifier_url, "", CONNECTIONS, peer.port))
        measured = await stack.measure(
            "ws-memory", __name__, wanted, PLANNED_SECONDS, others={"ws": peer.pid}
        )
    return measured.with_memory_of("ws")


@asynccontextmanager
async def prepare(parameters: dict[str, Any]) -> AsyncIterator[Run]:
    """Nothing: the connecting is what is measured."""
    wanted = Parameters(**parameters)
    crowd = Crowd(_door(wanted), waits_for_live=not wanted.peer_port)

    async def run() -> Result:
        start = perf_counter()
        await crowd.gather(wanted.connections)
        elapsed = perf_counter() - start
        await asyncio.sleep(SETTLE_SECONDS)
        return {"clients": wanted.connections, "seconds": elapsed}

    yield run
    crowd.leave()


def _door(wanted: Parameters) -> Door:
    if wanted.peer_port:
        return Door("127.0.0.1", wanted.peer_port, "/", b"")
    return notifier_door(wanted.notifier_url, subscribe_request(wanted.token))


if __name__ == "__main__":
    serve_load(prepare)
