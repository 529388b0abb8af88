"""The service as a process: how it starts, waits for its database, and ends."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from socket import AF_INET, SOCK_STREAM, socket
from typing import Any

import pytest
from aiohttp import ClientSession
from query_stack import SECRET, token

from forked_services import ForkedService
from tracking.devstack.database_node import DatabaseNode
from tracking.devstack.processes import wait_until
from tracking.devstack.service_process import ServiceProcess
from tracking_shared.storage.database import open_database

StartQuery = Callable[..., ServiceProcess]


@pytest.fixture
async def start_query(tmp_path: Path) -> AsyncIterator[StartQuery]:
    """Starts replicas without waiting for them, and ends them after the test."""
    started: list[ServiceProcess] = []

    def start(port: int | None = None, **environment: str) -> ServiceProcess:
        common = {"AMQP_URL": "amqp://unused", "JWT_SECRET": SECRET}
        service = ForkedService("query", environment=common | environment, logs=tmp_path, port=port)
        started.append(service)
        service.launch()
        return service

    yield start
    for service in started:
        await service.stop()


async def get(service: ServiceProcess, path: str) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token()}"}
    async with ClientSession(service.url, headers=headers) as session, session.get(path) as response:
        return response.status, await response.json(content_type=None)


async def test_another_partition_count_ends_it_with_one_line(
    start_query: StartQuery, mongodb_url: str, database_name: str
) -> None:
    async with open_database(mongodb_url, database_name) as database:
        await database.prepare(3)
    service = start_query(MONGODB_URL=mongodb_url, MONGODB_DATABASE=database_name, PARTITIONS="5")
    assert await service.process.wait() == 78
    assert service.process.last_line().startswith("query: PARTITIONS: the database was set up with 3")


async def test_a_busy_port_ends_it_with_one_line(start_query: StartQuery, mongodb_url: str) -> None:
    with socket(AF_INET, SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        service = start_query(port=taken.getsockname()[1], MONGODB_URL=mongodb_url)
        assert await service.process.wait() == 69
    assert service.process.last_line().startswith("query: cannot listen on 127.0.0.1:")


async def test_it_waits_for_its_database_and_survives_its_loss(
    start_query: StartQuery, tmp_path: Path
) -> None:
    node = DatabaseNode(tmp_path / "database")
    service = start_query(MONGODB_URL=node.url, PARTITIONS="4")
    try:
        await wait_until(lambda: _is_alive(service), seconds=30, what="the service is alive")
        status, ready = await get(service, "/readyz")
        assert (status, ready["status"], list(ready["failing"])) == (503, "unavailable", ["database"])

        await node.start()
        async with open_database(node.url, "tracking") as database:
            await database.prepare(4)
        await wait_until(service.is_ready, seconds=30, what="the service is ready")
        assert await get(service, "/v1/orders") == (200, {"items": [], "next_cursor": None})

        await node.kill()
        status, problem = await get(service, "/v1/orders")
        assert (status, problem["type"]) == (503, "/problems/database-unavailable")
        assert (await get(service, "/healthz"))[0] == 200

        await node.start()
        await wait_until(service.is_ready, seconds=30, what="the service is ready again")
        assert (await get(service, "/v1/orders"))[0] == 200
    finally:
        await node.stop()


async def is_unready(service: ServiceProcess) -> bool:
    """A process is stopped a moment after the signal: what it was just asked may still be answered."""
    return (await get(service, "/readyz"))[0] == 503


async def test_asking_for_readiness_while_the_database_is_frozen_leaves_nothing_behind(
    start_query: StartQuery, tmp_path: Path
) -> None:
    node = DatabaseNode(tmp_path / "database")
    try:
        await node.start()
        async with open_database(node.url, "tracking") as database:
            await database.prepare(4)
        service = start_query(MONGODB_URL=node.url, PARTITIONS="4")
        await wait_until(service.is_ready, seconds=30, what="the service is ready")

        node.pause()
        await wait_until(lambda: is_unready(service), seconds=30, what="the database is frozen")
        answers = await asyncio.gather(*(get(service, "/readyz") for _ in range(12)))
        assert {status for status, _ in answers} == {503}
        node.resume()

        await wait_until(service.is_ready, seconds=20, what="the service is ready again")
        assert (await get(service, "/v1/orders"))[0] == 200
    finally:
        node.resume()
        await node.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_signal_ends_it_cleanly(
    start_query: StartQuery, mongodb_url: str, number: signal.Signals
) -> None:
    service = start_query(MONGODB_URL=mongodb_url)
    await service.start()
    service.process.signal(number)
    assert await service.process.wait() == 0


async def _is_alive(service: ServiceProcess) -> bool:
    try:
        return (await get(service, "/healthz"))[0] == 200
    except OSError:
        return False
