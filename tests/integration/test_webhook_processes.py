"""webhooks as processes, with the other services: end to end, killed, without a broker."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from statistics import median
from time import time
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import ClientSession
from webhook_stack import Receiver, receiver, until

from callers import token
from database_roles import beyond_role
from fixtures import Spine, StartService
from tracking.devstack.service_process import ServiceProcess
from tracking_shared.storage.database import open_database
from wire_tap import tap_database

LOOPBACK = {"WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8"}
MANAGER = {"scope": "webhooks:manage orders:read", "merchants": ["*"]}


@pytest.fixture
async def query(spine: Spine, start_service: StartService) -> ServiceProcess:
    return await start_service("query", **LOOPBACK)


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession(headers={"Authorization": f"Bearer {token(**MANAGER)}"}) as made:
        yield made


async def register(session: ClientSession, query: ServiceProcess, hook: Receiver, **fields: Any) -> str:
    async with session.post(f"{query.url}/v1/webhooks", json={"url": hook.url, **fields}) as answer:
        assert answer.status == 201, await answer.text()
        return str((await answer.json())["id"])


async def shown(session: ClientSession, query: ServiceProcess, webhook_id: str) -> dict[str, Any]:
    async with session.get(f"{query.url}/v1/webhooks/{webhook_id}") as answer:
        found: dict[str, Any] = await answer.json()
        return found


async def lives(spine: Spine, number: int) -> list[str]:
    """Orders that each have created, picked up, delivered."""
    names = [f"o-{uuid4().hex[:12]}" for _ in range(number)]
    steps = ("picked_up", "in_transit", "delivered")
    await asyncio.gather(*(spine.caller.live(name, steps) for name in names))
    return names


def firsts(hook: Receiver) -> dict[str, list[int]]:
    """By order, the versions in the order of their first arrival."""
    return {order_id: list(dict.fromkeys(versions)) for order_id, versions in hook.taken.items()}


async def test_updates_arrive_at_the_receiver_and_the_log_says_nothing_of_them(
    spine: Spine, start_service: StartService, query: ServiceProcess, session: ClientSession
) -> None:
    async with tap_database(spine.environment["MONGODB_URL"]) as tap, receiver() as hook:
        service = await start_service("webhooks", MONGODB_URL=tap.url, **LOOPBACK)
        webhook_id = await register(session, query, hook)
        names = await lives(spine, 5)
        await until(lambda: hook.count >= 20)

        async def is_done() -> bool:
            found = await shown(session, query, webhook_id)
            return found["pending"] == 0 and found["last_attempt"] is not None

        await until(is_done, seconds=60)
        await service.stop()
    assert beyond_role("webhooks", tap.commands) == set()
    log = service.log_path.read_text()

    assert firsts(hook) == {name: [1, 2, 3, 4] for name in names}
    assert "Ada" not in log
    assert "crm-1" not in log
    assert hook.url not in log


async def test_a_replica_that_is_killed_is_replaced_and_nothing_is_missed(
    spine: Spine, start_service: StartService, query: ServiceProcess, session: ClientSession
) -> None:
    replicas = [await start_service("webhooks", **LOOPBACK) for _ in range(2)]
    async with receiver(of_one_webhook=False) as hook:
        for status in ("created", "picked_up", "in_transit", "delivered"):
            for _ in range(3):
                await register(session, query, hook, filter={"status": [status]})
        await lives(spine, 3)
        await until(lambda: hook.count >= 3 * 4 * 3)
        sending = asyncio.create_task(lives(spine, 30))
        await until(lambda: hook.count >= 60)
        await replicas[0].kill()
        names = await sending
        await until(lambda: all(set(hook.taken[name]) == {1, 2, 3, 4} for name in names), seconds=60)

        async def each_has_all() -> bool:
            async with session.get(f"{query.url}/v1/webhooks") as answer:
                return all(item["pending"] == 0 for item in (await answer.json())["items"])

        await until(each_has_all, seconds=90)

    counts = {version: hook.taken[name].count(version) for name in names for version in (1, 2, 3, 4)}
    assert min(counts.values()) >= 3


async def test_without_a_broker_events_arrive_too(
    spine: Spine, start_service: StartService, query: ServiceProcess, session: ClientSession
) -> None:
    await start_service("webhooks", AMQP_URL="amqp://guest:guest@127.0.0.1:9/", **LOOPBACK)
    async with receiver() as hook:
        await register(session, query, hook)
        names = await lives(spine, 2)
        await until(lambda: hook.count >= 8)

    assert firsts(hook) == {name: [1, 2, 3, 4] for name in names}


async def test_it_is_ready_and_stops_within_seconds_while_a_receiver_does_not_answer(
    spine: Spine, start_service: StartService, query: ServiceProcess, session: ClientSession
) -> None:
    async def silent(event: Any) -> Any:
        await asyncio.Event().wait()

    service = await start_service("webhooks", **LOOPBACK)
    async with receiver(silent) as hook:
        await register(session, query, hook)
        await lives(spine, 1)
        await until(lambda: len(hook.requests) >= 1)
        began = asyncio.get_running_loop().time()
        await service.stop()
        seconds = asyncio.get_running_loop().time() - began

    assert seconds < 10
    async with open_database(
        spine.environment["MONGODB_URL"], spine.environment["MONGODB_DATABASE"]
    ) as database:
        assert await database.webhook_senders.count_documents({}) == 0
        stored = await database.webhooks.find({}).to_list()
        assert {webhook["sender"] for webhook in stored} == {None}


@pytest.mark.slow
async def test_an_event_arrives_in_a_time_that_is_like_that_of_the_websocket(
    spine: Spine, start_service: StartService, query: ServiceProcess, session: ClientSession
) -> None:
    notifier = await start_service("notifier")
    await start_service("webhooks", **LOOPBACK)
    arrived: dict[str, float] = {}
    samples = 100
    async with receiver() as hook, session.ws_connect(f"{notifier.url}/v1/stream") as socket:
        await register(session, query, hook)
        viewer = token(scope="orders:read", merchants=["*"])
        await socket.send_json({"type": "subscribe", "token": viewer, "filter": {}, "snapshot": False})

        async def watch() -> None:
            async for message in socket:
                for event in message.json().get("events", ()):
                    arrived.setdefault(event["id"], time())

        watching = asyncio.create_task(watch())
        await lives(spine, 1)
        await until(lambda: hook.count >= 4 and len(arrived) >= 4)
        for number in range(samples):
            await spine.caller.live(f"o-{uuid4().hex[:12]}", ())
            await until(lambda number=number: min(hook.count, len(arrived)) >= 5 + number)  # type: ignore[misc]
        watching.cancel()
    delays = []
    for request in hook.requests[-samples:]:
        committed = datetime.fromisoformat(request.event["time"]).timestamp()
        delays.append((request.at - committed, arrived[request.event["id"]] - committed))
    by_webhook, by_socket = (median(column) * 1000 for column in zip(*delays, strict=True))

    print(f"from the decision, median: webhook {by_webhook:.1f} ms, WebSocket {by_socket:.1f} ms")
    assert by_webhook < 20 * by_socket
