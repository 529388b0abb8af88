"""The services meet the same contract as the fake server of the Python client, and answer alike."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from callers import token
from client_contract import SCENES, Server, transcript
from fixtures import PARTITIONS, Spine, StartService
from tracking_client.fake import FakeServer
from tracking_client.fake.access import make_token

SCOPE = "orders:read orders:write orders:correct"


@pytest.fixture
async def real(spine: Spine, start_service: StartService) -> Server:
    """With no orders but those of the test."""
    return await serving(spine, start_service)


@pytest.fixture(scope="module")
async def shared_real(module_spine: Spine, start_shared: StartService) -> Server:
    return await serving(module_spine, start_shared)


async def serving(spine: Spine, start: StartService) -> Server:
    """The addresses, with a query and a notifier added."""
    query = await start("query", PARTITIONS=str(PARTITIONS))
    notifier = await start("notifier", PARTITIONS=str(PARTITIONS))
    return Server(
        spine.ingest.url,
        query.url,
        notifier.stream_url,
        lambda **claims: token(**({"scope": SCOPE} | claims)),
    )


async def test_both_answer_every_step_alike(real: Server) -> None:
    def fake_token(**claims: Any) -> str:
        standard = {"sub": "caller", "scope": SCOPE, "merchants": ["*"], "exp": time.time() + 600}
        return make_token(fake.jwt_secret, standard | claims)

    async with FakeServer() as fake:
        expected = await transcript(real)
        found = await transcript(Server(fake.url, fake.url, fake.stream_url, fake_token))
    differing = [pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1]]
    for ours, theirs in differing:
        assert ours.document == theirs.document
    assert not differing


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_the_services_in(scene: Callable[[Server], Awaitable[None]], shared_real: Server) -> None:
    await scene(shared_real)
