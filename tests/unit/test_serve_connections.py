"""Serving over connections ends when it is told to, also in the middle of connecting."""

import asyncio
import gc
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tracking_shared.messaging.connection import Connection, connect
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.messaging.reconnection import serve_connections

STEPS = 150
"""Turns of the event loop after which it is told to end: more than one attempt to connect takes."""


@contextmanager
def nobody_listening() -> Iterator[str]:
    """The URL of a port that is taken, and refuses connections."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        yield f"amqp://127.0.0.1:{silent.getsockname()[1]}/"


async def never(_: Connection) -> None:
    """Nobody listens, so there is nothing to serve."""
    raise AssertionError("there is no broker")


async def test_it_ends_at_whatever_step_of_connecting_it_is_cancelled() -> None:
    with nobody_listening() as url:
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


def test_an_attempt_that_failed_leaves_nothing_to_close_later() -> None:
    """A driver's connection that is collected unclosed would close itself then, and there is no loop."""

    async def attempt() -> None:
        with nobody_listening() as url, pytest.raises(BrokerUnavailable):
            async with connect(url, "test"):
                pass

    with asyncio.Runner() as runner:
        runner.run(attempt())
    gc.collect()
