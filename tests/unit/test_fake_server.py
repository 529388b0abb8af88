"""The fake server meets the contract of the services, starts in milliseconds, and says what it lacks."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import ClientSession

from client_contract import SCENES, Server, transcript
from tracking_client import LiveOrders, Sender, StreamRefused, create
from tracking_client.fake import FakeServer
from tracking_client.fake.access import make_token
from tracking_client.fake.workflow import CHECKPOINTS, INITIAL, TRANSITIONS
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW


@pytest.fixture
async def fake() -> AsyncIterator[FakeServer]:
    async with FakeServer() as server:
        yield server


def as_server(fake: FakeServer) -> Server:
    """The fake server as the contract addresses it."""
    standard: dict[str, Any] = {
        "sub": "caller",
        "scope": "orders:read orders:write orders:correct",
        "merchants": ["*"],
    }

    def token(**claims: Any) -> str:
        return make_token(fake.jwt_secret, {"exp": time.time() + 600, **standard, **claims})

    return Server(fake.url, fake.url, fake.stream_url, token)


async def test_the_fake_answers_as_the_contract_says(fake: FakeServer) -> None:
    await transcript(as_server(fake))


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_the_fake_in(scene: Callable[[Server], Awaitable[None]], fake: FakeServer) -> None:
    await scene(as_server(fake))


def test_the_fake_has_the_default_workflow() -> None:
    assert DEFAULT_WORKFLOW.initial == INITIAL
    assert dict(DEFAULT_WORKFLOW.transitions) == TRANSITIONS
    assert DEFAULT_WORKFLOW.checkpoints == CHECKPOINTS


async def test_the_fake_starts_in_milliseconds() -> None:
    fastest = 1.0
    for _ in range(10):
        start = time.perf_counter()
        async with FakeServer() as server:
            fastest = min(fastest, time.perf_counter() - start)
            assert server.url
    assert fastest < 0.05


@pytest.mark.parametrize("path", ["/v1/reports/durations", "/v1/orders?sort=updated_at", "/v1/webhooks"])
async def test_what_the_fake_does_not_have_is_answered_with_501(fake: FakeServer, path: str) -> None:
    headers = {"Authorization": f"Bearer {fake.token()}"}
    async with ClientSession() as session, session.get(fake.url + path, headers=headers) as response:
        assert response.status == 501
        assert (await response.json(content_type=None))["type"] == "/problems/not-in-the-fake"


async def test_a_client_goes_on_after_the_streams_are_restarted(fake: FakeServer) -> None:
    live = LiveOrders(fake.stream_url, fake.token(), {})
    async with Sender(fake.url, fake.token()) as sender, aclosing(live.events()) as events:
        following = asyncio.create_task(anext(events))
        async with asyncio.timeout(30):
            await live.live.wait()
            await fake.restart_streams()
            await sender.send(create("o-1", merchant_id="acme", name="Ada", contact_ref="crm:1"))
            assert (await following)["id"] == "o-1:1"
    assert live.connections == 2


async def test_a_stream_ends_with_its_token(fake: FakeServer) -> None:
    live = LiveOrders(fake.stream_url, fake.token(ttl_seconds=1), {})
    with pytest.raises(StreamRefused, match="expired"):
        async with asyncio.timeout(30), aclosing(live.events()) as events:
            await anext(events)
