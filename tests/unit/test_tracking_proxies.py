"""A proxy that the environment names is not asked for what is on this machine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve

from tracking_client.live_orders import LiveOrders, is_local

NOBODY = "http://127.0.0.1:9"
"""The port of `discard`, which nothing listens on."""


@asynccontextmanager
async def stream() -> AsyncIterator[str]:
    async def answer(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send('{"type":"live","cursor":"c"}')
        await socket.wait_closed()

    async with serve(answer, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/stream"


async def first_event(live: LiveOrders) -> None:
    async with aclosing(live.events()) as events:
        await anext(events)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
async def test_a_local_stream_goes_through_no_proxy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, NOBODY)
    async with stream() as url:
        live = LiveOrders(url, "token", snapshot=False)
        following = asyncio.create_task(first_event(live))
        try:
            async with asyncio.timeout(30):
                await live.live.wait()
        finally:
            following.cancel()
        assert live.connections == 1


@pytest.mark.parametrize(
    ("url", "local"),
    [
        *((f"ws://{host}:8003/v1/stream", True) for host in ("localhost", "127.0.0.1", "127.9.9.9", "[::1]")),
        ("wss://Desk.LOCALHOST./v1/stream", True),
        *(
            (f"wss://{host}/v1/stream", False)
            for host in ("desk.example", "10.0.0.1", "localhost.example", "[::2]")
        ),
        *((text, False) for text in ("", "ws://", "ws://[", "desk")),
    ],
)
def test_local_is_what_no_proxy_reaches(url: str, local: bool) -> None:
    assert is_local(url) is local
