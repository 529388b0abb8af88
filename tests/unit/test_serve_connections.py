"""Serving over connections ends when it is told to, also in the middle of connecting."""

import asyncio
import socket

from shared.broker import Connection, serve_connections

STEPS = 150
"""Turns of the event loop after which it is told to end: more than one attempt to connect takes."""


async def never(_: Connection) -> None:
    """Nobody listens, so there is nothing to serve."""
    raise AssertionError("there is no broker")


async def test_it_ends_at_whatever_step_of_connecting_it_is_cancelled() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # taken, and never listening: connections are refused
        url = f"amqp://127.0.0.1:{silent.getsockname()[1]}/"
        serving = []
        for steps in range(STEPS):
            task = asyncio.create_task(serve_connections(url, "test", never))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            serving.append(task)
        _, unheeding = await asyncio.wait(serving, timeout=5)
        for task in unheeding:
            task.cancel()
        assert not unheeding, f"{len(unheeding)} of {STEPS} went on"
