"""Event streams behind the distribution's nginx: each message arrives when it is sent."""

import asyncio
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from stream_world import StreamWorld, bearer, stream_world
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from nginx_process import deployed_proxy, typical_proxy

PROXIES = {"typical": typical_proxy, "deployed": deployed_proxy}


def port_of(world: StreamWorld) -> int:
    port = urlsplit(world.url).port
    assert port is not None
    return port


@pytest.mark.parametrize("name", PROXIES)
async def test_each_event_arrives_at_once_and_a_client_that_leaves_is_noticed(
    name: str, tmp_path: Path
) -> None:
    async with stream_world() as world, PROXIES[name](tmp_path, port_of(world)) as origin:
        world.url = f"{origin}/v1/stream"
        async with world.streaming() as stream:
            await stream.until("live")
            for version in range(1, 4):
                started = time.monotonic()
                world.happens("o-1")
                event = await stream.next()
                assert event.data["events"][0]["id"] == f"o-1:{version}"
                assert time.monotonic() - started < 2
        async with asyncio.timeout(10):
            while world.sessions:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.01)


async def test_a_refusal_comes_through_as_it_is(tmp_path: Path) -> None:
    async with stream_world() as world, deployed_proxy(tmp_path, port_of(world)) as origin:
        world.url = f"{origin}/v1/stream"
        async with world.streaming(token=bearer(scope="orders:write"), status=403) as stream:
            assert stream.response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("name", "status"), [("typical", 426), ("deployed", 101)])
async def test_a_typical_proxy_blocks_websockets_and_the_deployed_one_does_not(
    name: str, status: int, tmp_path: Path
) -> None:
    async with stream_world() as world, PROXIES[name](tmp_path, port_of(world)) as origin:
        try:
            async with connect(f"{origin.replace('http', 'ws')}/v1/stream"):
                answered = 101
        except InvalidStatus as refused:
            answered = refused.response.status_code
        assert answered == status
