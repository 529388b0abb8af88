"""`tracking up`: what it starts, keeps running, and leaves behind (nothing)."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import ClientSession
from command import RunningStack

from command_line import run
from tracking.devstack.processes import is_running, wait_until

StartStack = Callable[..., RunningStack]


@pytest.fixture
async def start_stack(tmp_path: Path) -> AsyncIterator[StartStack]:
    """Starts `tracking up` on a folder of this test's own, with arguments and environment."""
    started: list[RunningStack] = []

    def start(*arguments: str, **environment: str) -> RunningStack:
        started.append(RunningStack(tmp_path, *arguments, **environment))
        return started[-1]

    yield start
    for stack in started:
        await stack.process.stop()


async def test_all_is_ready_when_the_file_says_so_what_dies_is_started_again_and_a_signal_ends_all(
    start_stack: StartStack,
) -> None:
    places = {"JWT_ISSUER": "https://issuer.example", "JWT_AUDIENCE": "tracking"}
    stack = start_stack("--replicas", "ingest=2", "--replicas", "order-state=2", **places)
    document = await stack.wait_ready()

    assert set(document["pids"]) == {
        "epmd",
        "broker",
        "database",
        "ingest",
        "ingest-1",
        "order-state",
        "order-state-1",
        "query",
        "notifier",
        "webhooks",
    }
    assert document["console"] == f"{document['query']}/console/"
    assert document["notifier"].endswith("/v1/stream")
    assert document["jwt_secret"] == (stack.data / "jwt-secret").read_text()
    async with ClientSession() as session:
        for url in document["urls"].values():
            async with session.get(f"{url}/readyz") as response:
                assert response.status == 200
        async with session.get(document["console"]) as response:
            assert response.status == 200
        headers = {"Authorization": f"Bearer {await _token_of_another_shell(stack)}"}
        async with session.get(f"{document['query']}/v1/orders", headers=headers) as response:
            assert response.status == 200
    assert {process.pid for process in stack.family} >= set(document["pids"].values())
    await _what_dies_is_started_again(stack)
    family = stack.family

    assert await stack.end(signal.SIGINT) == 0
    assert not any(map(is_running, family))
    assert not stack.ready_file.exists()


async def _token_of_another_shell(stack: RunningStack) -> str:
    finished = await run(
        *("token", "--sub", "ann", "--scope", "orders:read", "--merchants", "*"),
        *("--data-dir", str(stack.data)),
    )
    assert finished.exit_code == 0, finished
    return finished.output.strip()


async def _what_dies_is_started_again(stack: RunningStack) -> None:
    before = stack.document["pids"]
    for name in ("ingest", "broker", "database"):
        os.kill(before[name], signal.SIGKILL)

    async def all_run_again() -> bool:
        return all(f"{name} runs again" in stack.output for name in ("ingest", "broker", "database"))

    await wait_until(all_run_again, seconds=60, what="the restart")
    assert "ingest ended (SIGKILL); starting it again in 0.2 s" in stack.output
    after = stack.document["pids"]
    assert {name for name in before if before[name] != after[name]} == {"ingest", "broker", "database"}


async def test_killing_the_command_itself_leaves_nothing(start_stack: StartStack) -> None:
    stack = start_stack()
    await stack.wait_ready()
    family = stack.family

    await stack.end(signal.SIGKILL)

    async def all_gone() -> bool:
        return not any(map(is_running, family))

    await wait_until(all_gone, seconds=30, what="the end of all processes")


async def test_a_signal_while_it_starts_leaves_nothing(start_stack: StartStack) -> None:
    stack = start_stack()

    async def broker_started() -> bool:
        return (stack.data / "logs" / "broker.log").exists()

    await wait_until(broker_started, seconds=40, what="the broker's log", every=0.02)
    family = stack.family

    assert await stack.end() == 0
    assert not any(map(is_running, family))
