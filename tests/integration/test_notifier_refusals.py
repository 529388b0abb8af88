"""What the stream refuses, how it says so, and what it takes at most."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientSession
from notifier_stack import (
    Stage,
    StartService,
    eventually,
    ids,
    new_merchant,
    new_order,
    notifier_stage,
    raw_client,
    settled,
    subscribed,
)

from positions import position_of
from tracking_shared.contracts.cursors import Position, encode_cursor

MAX_CLIENT_MESSAGE_BYTES = 64 * 1024


@pytest.fixture(scope="module")
async def shared_stage(
    start_shared: StartService, module_environment: dict[str, str]
) -> AsyncIterator[Stage]:
    async with notifier_stage(
        start_shared,
        module_environment,
        NOTIFIER_MAX_CONNECTIONS="4",
        NOTIFIER_MAX_CONNECTIONS_PER_PRINCIPAL="2",
    ) as stage:
        yield stage


@pytest.fixture
async def stage(shared_stage: Stage) -> Stage:
    return await settled(shared_stage)


@pytest.fixture
async def beside(
    shared_stage: Stage, start_service: StartService, module_environment: dict[str, str]
) -> Callable[..., Awaitable[Stage]]:
    """Starts another notifier, with other settings, beside the shared one."""

    async def start(**settings: str) -> Stage:
        return replace(
            shared_stage, notifier=await start_service("notifier", **module_environment, **settings)
        )

    return start


async def refused(stage: Stage, data: str | bytes | None = None, **message: Any) -> tuple[int, str]:
    """The close code and the problem's slug that a first message meets."""
    async with raw_client(stage.url) as client:
        if data is None:
            await client.send(**message)
        else:
            await client.socket.send(data)
        code, _, messages = await client.closed()
    problem = messages[-1]["problem"]["type"] if messages else ""
    return code, problem.removeprefix("/problems/")


async def test_bad_messages_are_refused(stage: Stage) -> None:
    valid = {"type": "subscribe", "token": stage.token()}
    assert await refused(stage, "{") == (4400, "malformed-json")
    assert await refused(stage, b"\xff\x00") == (4400, "malformed-json")
    assert await refused(stage, '{"type":"subscribe","type":"refresh"}') == (4400, "malformed-json")
    assert await refused(stage, "[1]") == (4400, "validation-failed")
    assert await refused(stage, type="sing") == (4400, "validation-failed")
    assert await refused(stage, type="refresh", token=stage.token()) == (4400, "validation-failed")
    assert await refused(stage, **valid, colour="red") == (4400, "validation-failed")
    assert await refused(stage, **valid, filter={"color": ["red"]}) == (4400, "validation-failed")
    assert await refused(stage, **valid, filter={"status": ["lost"]}) == (4400, "validation-failed")
    assert await refused(stage, **valid, filter={"order_id": ["a b"]}) == (4400, "validation-failed")
    assert await refused(stage, **valid, filter={"order_id": []}) == (4400, "validation-failed")
    assert await refused(stage, **valid, filter={"active": "yes"}) == (4400, "validation-failed")
    assert await refused(stage, **valid, after="nonsense") == (4400, "invalid-cursor")


async def test_a_problem_names_the_place_in_the_message(stage: Stage) -> None:
    async with raw_client(stage.url) as client:
        await client.send(type="subscribe", token=stage.token(), filter={"merchant_id": ["acme", "a b"]})
        problem = (await client.receive())["problem"]
    assert [error["pointer"] for error in problem["errors"]] == ["/filter/merchant_id/1"]


async def test_only_valid_tokens_with_the_scope_are_served(stage: Stage) -> None:
    assert await refused(stage, type="subscribe") == (4401, "unauthenticated")
    assert await refused(stage, type="subscribe", token="nonsense") == (4401, "unauthenticated")
    assert await refused(stage, type="subscribe", token=stage.token(ttl=-1)) == (4401, "unauthenticated")
    forbidden = stage.token(scope="orders:write")
    assert await refused(stage, type="subscribe", token=forbidden) == (4403, "forbidden")


async def test_a_refused_token_is_told_why(stage: Stage) -> None:
    past, endless = stage.token(ttl=-1), stage.token(ttl=60 * 60 * 24 * 365 * 300)
    for bearer, told in (
        (stage.token(sub="a\nb"), "sub: 1 to 255 characters without controls."),
        (past, "exp: the token has expired."),
        (endless, "exp: is beyond the year 2200; it counts seconds, this looks like milliseconds."),
        (f"{past[:-4]}AAAA", "The token is not valid."),
    ):
        async with raw_client(stage.url) as client:
            await client.send(type="subscribe", token=bearer)
            assert (await client.receive())["problem"]["detail"] == told


async def test_messages_that_are_too_big_are_refused(stage: Stage) -> None:
    for size in (MAX_CLIENT_MESSAGE_BYTES + 1, 3 * 1024 * 1024):
        assert await refused(stage, "x" * size) == (4413, "payload-too-large")


async def test_a_message_that_grows_too_big_in_parts_is_refused(stage: Stage) -> None:
    async with raw_client(stage.url) as client:
        await client.socket.send(["x" * 1024] * 65)
        code, _, messages = await client.closed()
    assert (code, len(messages)) == (4413, 1)
    problem = messages[0]["problem"]
    assert (problem["limit_bytes"], len(problem["trace_id"])) == (MAX_CLIENT_MESSAGE_BYTES, 32)


async def test_no_subscribe_in_time(stage: Stage) -> None:
    async with raw_client(stage.url) as client:
        code, _, messages = await client.closed(seconds=20)
    assert code == 4408
    assert [message["problem"]["type"] for message in messages] == ["/problems/request-timeout"]


async def test_a_connection_stays_its_principals(stage: Stage) -> None:
    for second in ({"type": "subscribe"}, {"type": "subscribe", "after": None, "snapshot": False}):
        async with subscribed(stage.url, stage.token()) as client:
            await client.send(**second, token=stage.token(sub="another"))
            code, _, messages = await client.closed()
        assert (code, messages[-1]["problem"]["type"]) == (4403, "/problems/forbidden")


@pytest.mark.parametrize("way", ["header", "subprotocol"])
async def test_a_token_of_another_than_that_of_the_handshake_is_refused(stage: Stage, way: str) -> None:
    def handshake(bearer: str) -> dict[str, Any]:
        if way == "header":
            return {"additional_headers": {"Authorization": f"Bearer {bearer}"}}
        return {"subprotocols": ["tracking.v1", f"bearer.{bearer}"]}

    async with raw_client(stage.url, **handshake(stage.token())) as client:
        await client.send(type="subscribe", token=stage.token(sub="another"))
        code, _, messages = await client.closed()
        assert (code, [m["problem"]["type"] for m in messages]) == (4403, ["/problems/forbidden"])
    for first in (stage.token(scope="orders:write"), stage.token(ttl=-1)):
        async with raw_client(stage.url, **handshake(first)) as client:
            await client.send(type="subscribe", token=stage.token())
            await client.until("live")
    async with raw_client(stage.url, **handshake(stage.token())) as client:
        await client.send(type="subscribe")
        await client.until("live")
        await client.send(type="refresh", token=stage.token(sub="another"))
        assert (await client.receive())["problem"]["type"] == "/problems/forbidden"


async def test_a_thousand_subscribes_are_too_many(stage: Stage) -> None:
    async with raw_client(stage.url) as client:
        await client.send(type="subscribe", token=stage.token())
        for _ in range(1000):
            await client.send(type="subscribe")
        code, _, messages = await client.closed()
    assert code == 4429
    assert messages[-1]["problem"]["type"] == "/problems/too-many-requests"


async def test_connections_are_limited_per_principal_and_in_all(stage: Stage) -> None:
    async with (
        subscribed(stage.url, stage.token()),
        subscribed(stage.url, stage.token()),
        subscribed(stage.url, stage.token(sub="another")),
    ):
        assert await refused(stage, type="subscribe", token=stage.token()) == (4429, "too-many-requests")
        async with subscribed(stage.url, stage.token(sub="another")), raw_client(stage.url) as fifth:
            code, _, _ = await fifth.closed()
            assert code == 4429


async def test_a_merchant_with_many_users_leaves_connections_to_others(
    beside: Callable[..., Awaitable[Stage]],
) -> None:
    stage = await beside(NOTIFIER_MAX_CONNECTIONS="8")
    async with AsyncExitStack() as open_ones:

        def bearer(sub: str, merchant: str) -> str:
            return stage.token(sub=sub, merchants=[merchant])

        for number in range(6):
            user = bearer(f"user-{number // 2}", "greedy")
            await open_ones.enter_async_context(subscribed(stage.url, user))
        for _ in range(3):
            denied = await refused(stage, type="subscribe", token=bearer("another-user", "greedy"))
            assert denied == (4429, "too-many-requests")
        modest = await open_ones.enter_async_context(subscribed(stage.url, bearer("ann", "modest")))
        [event] = await stage.stub.commit((new_order(), "modest", "created"))
        assert ids(await modest.events(1)) == [f"{event['order_id']}:{event['version']}"]


async def test_cursors_of_another_log_or_of_the_future_are_resynchronised(stage: Stage) -> None:
    order, merchant = new_order(), new_merchant()
    await stage.stub.commit((order, merchant, "created"))
    async with subscribed(stage.url, stage.token()) as client:
        await stage.stub.commit((order, merchant, "picked_up"))
        cursor = (await client.receive())["cursor"]
    epoch = (await position_of(stage.stub.database, cursor)).epoch
    for position, reason in (
        (Position("0" * 12, (0, 0, 0, 0)), "epoch-changed"),
        (Position(epoch, (0, 0, 0)), "epoch-changed"),
        (Position(epoch, (9999, 9999, 9999, 9999)), "position-unknown"),
    ):
        bearer = stage.token(merchants=[merchant])
        async with raw_client(stage.url) as client:
            await client.send(type="subscribe", token=bearer, after=encode_cursor(position))
            resync, *snapshots, _ = await client.until("live")
            assert (resync["type"], resync["reason"]) == ("resync", reason)
            assert [o["order_id"] for page in snapshots for o in page["orders"]] == [order]


async def test_a_dead_peer_is_cut_and_a_silent_one_is_not(beside: Callable[..., Awaitable[Stage]]) -> None:
    stage = await beside(NOTIFIER_HEARTBEAT_SECONDS="0.5")
    async with subscribed(stage.url, stage.token()) as silent:
        async with raw_client(stage.url) as dead:
            await dead.send(type="subscribe", token=stage.token())
            await dead.until("live")
            dead.socket.transport.pause_reading()

            async def cut() -> bool:
                return await stage.metric('tracking_stream_closed_total{code="dead"}') == 1

            await eventually(cut)
            dead.socket.transport.abort()
        await stage.stub.commit((new_order(), "acme", "created"))
        await silent.events(1)


async def test_a_live_client_is_told_that_it_is_even_when_nothing_happens(
    beside: Callable[..., Awaitable[Stage]],
) -> None:
    stage = await beside(NOTIFIER_HEARTBEAT_SECONDS="0.5")
    wanted = {"merchant_id": ["quiet"]}
    async with subscribed(stage.url, stage.token(), filter=wanted, heartbeat=True) as watcher:
        [event] = await stage.stub.commit((new_order(), "acme", "created"))

        async def beat() -> bool:
            message = await watcher.receive()
            assert (message["type"], message["events"]) == ("events", [])
            position = await position_of(stage.stub.database, message["cursor"])
            return position.seqs[event["partition"]] == event["seq"]

        await eventually(beat)


async def test_health_and_metrics_share_the_port(stage: Stage) -> None:
    base = stage.notifier.url
    async with ClientSession() as session:
        for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/nothing", 404)):
            async with session.get(base + path) as response:
                assert response.status == status, path
        async with session.post(f"{base}/healthz") as response:
            assert response.status == 405
            assert (await response.json(content_type=None))["type"] == "/problems/method-not-allowed"
        async with session.get(f"{base}/v1/stream") as response:
            assert response.status == 426
