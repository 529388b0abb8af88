"""`token`, `revoke`, `load`, `tail`, `check` and `demo` against a stack that runs."""

import asyncio
import gzip
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import jwt
import pytest
from aiohttp import ClientSession
from command import ANY_PORTS, Finished, RunningStack, run

from shared.database import open_database
from tracking.processes import ChildProcess, wait_until
from tracking.revoke import CLOSED_SECONDS

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStack]:
    """One stack for all tests of this module."""
    running = RunningStack(tmp_path_factory.mktemp("stack"))
    try:
        await running.wait_ready()
        yield running
    finally:
        await running.process.stop()


async def _history(stack: RunningStack, order_id: str, token: str) -> list[str]:
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{stack.document['query']}/v1/orders/{order_id}/history"
    async with ClientSession() as session, session.get(url, headers=headers) as response:
        assert response.status == 200, await response.text()
        return [item["status"] for item in (await response.json())["items"]]


async def _token(stack: RunningStack, merchants: str = "*", subject: str = "reader") -> str:
    finished = await run(
        *("token", "--sub", subject, "--scope", "orders:read", "--merchants", merchants),
        *("--data-dir", str(stack.data)),
    )
    assert finished.exit_code == 0, finished
    return finished.output.strip()


async def test_a_load_can_be_repeated_and_changes_nothing_then(stack: RunningStack, tmp_path: Path) -> None:
    run_id = uuid4().hex[:8]
    create = {"op": "create", "merchant_id": "acme", "customer": {"name": "Ada", "contact_ref": "crm-1"}}
    lines = [create | {"order_id": f"{run_id}-{n}"} for n in range(300)]
    first = tmp_path / "orders.ndjson.gz"
    with gzip.open(first, "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    second = tmp_path / "updates.csv"
    second.write_text(
        "order_id,status,occurred_at,metadata\n"
        + "".join(
            f"{run_id}-{n},{status},2026-01-01T08:15:00+01:00,\n"
            for n in range(300)
            for status in ("picked_up", "in_transit", "delivered")
        )
    )
    command = ("load", str(first), str(second), "--data-dir", str(stack.data))

    finished = await run(*command)
    assert finished.exit_code == 0, finished
    assert "orders 300, updates 900: applied 1,200, duplicate 0, rejected 0" in finished.output

    finished = await run(*command)
    assert finished.exit_code == 0, finished
    assert "applied 0, duplicate 1,200, rejected 0" in finished.output
    assert await _history(stack, f"{run_id}-7", await _token(stack)) == [
        "created",
        "picked_up",
        "in_transit",
        "delivered",
    ]


async def test_refusals_are_decisions_and_unreadable_lines_are_not(
    stack: RunningStack, tmp_path: Path
) -> None:
    order_id = uuid4().hex
    path = tmp_path / "a.csv"
    path.write_text(
        f"order_id,merchant_id,customer_name,customer_contact_ref,status\n{order_id},m,A,r,\n"
        f"{order_id},,,,delivered\n"
    )
    finished = await run("load", str(path), "--data-dir", str(stack.data))
    assert finished.exit_code == 0, finished
    assert "rejected 1 (1 invalid-transition)" in finished.output
    assert f"{path}:3: The order is created; it cannot become delivered." in finished.output

    path = tmp_path / "b.ndjson"
    path.write_text("nonsense\n")
    finished = await run("load", str(path), "--data-dir", str(stack.data))
    assert finished.exit_code == 1
    assert "not readable, not sent: 1" in finished.output


async def test_a_load_with_a_wrong_token_is_told_in_one_line(stack: RunningStack, tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text('{"op":"update","order_id":"o","status":"delivered"}\n')

    finished = await run("load", str(path), "--data-dir", str(stack.data), "--token", "nonsense")

    assert finished.exit_code == 1
    assert "answers 401" in finished.errors.splitlines()[-1]


async def test_a_token_reaches_only_its_merchants(stack: RunningStack) -> None:
    token = await _token(stack, merchants="nobody")
    url = f"{stack.document['query']}/v1/orders?limit=500"
    headers = {"Authorization": f"Bearer {token}"}
    async with ClientSession() as session, session.get(url, headers=headers) as response:
        assert response.status == 200
        assert (await response.json())["items"] == []


async def test_tail_shows_events_and_goes_on_after_the_notifier_died(
    stack: RunningStack, tmp_path: Path
) -> None:
    merchant = f"m-{uuid4().hex[:8]}"
    tail = ChildProcess(
        "tail",
        [sys.executable, "-m", "tracking", "tail", "--merchant", merchant, "--data-dir", str(stack.data)],
        environment=os.environ,
        log_path=tmp_path / "tail.log",
    )

    async def says(text: str) -> None:
        async def said() -> bool:
            return text in tail.log_path.read_text()

        await wait_until(said, seconds=40, what=f"{text!r} in the tail")

    async def send(order_id: str) -> None:
        path = tmp_path / f"{order_id}.csv"
        path.write_text(
            "order_id,merchant_id,customer_name,customer_contact_ref,status\n"
            f"{order_id},{merchant},A,r,\n{order_id},,,,picked_up\n"
        )
        assert (await run("load", str(path), "--data-dir", str(stack.data))).exit_code == 0

    try:
        await says("live from here")
        await send(f"{merchant}-first")
        await says(f"{merchant}-first")
        await says("created → picked_up  v2 by system load")

        os.kill(stack.document["pids"]["notifier"], 9)
        await send(f"{merchant}-second")
        await says(f"{merchant}-second")
    finally:
        await tail.stop()
    assert tail.log_path.read_text().count("created → picked_up") == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--status", "lost"), "/filter/status must be among"),
        (("--merchant", "a b"), "/filter/merchant_id/0 "),
        (("--after", "garbage"), "cursor"),
    ],
    ids=["status", "merchant", "cursor"],
)
async def test_a_tail_that_is_refused_says_why_in_one_line(
    stack: RunningStack, options: tuple[str, str], said: str
) -> None:
    finished = await run("tail", *options, "--data-dir", str(stack.data))

    assert finished.exit_code == 1
    assert len(finished.errors.splitlines()) == 1, finished
    assert finished.errors.startswith("tracking: ")
    assert said in finished.errors


async def test_a_revoked_token_ends_the_tail_that_it_opened_and_a_later_one_is_good(
    stack: RunningStack, tmp_path: Path
) -> None:
    subject = f"s-{uuid4().hex[:8]}"
    revoke = ("revoke", "--data-dir", str(stack.data))

    async def tail(token: str) -> ChildProcess:
        process = ChildProcess(
            "tail",
            [sys.executable, "-m", "tracking", "tail", "--data-dir", str(stack.data), "--token", token],
            environment=os.environ,
            log_path=tmp_path / f"{uuid4().hex}.log",
        )

        async def is_live() -> bool:
            return "live from here" in process.log_path.read_text()

        await wait_until(is_live, seconds=40, what="the tail")
        return process

    async def ends_in_time(process: ChildProcess) -> None:
        async with asyncio.timeout(CLOSED_SECONDS + 2):  # the process itself needs a moment to end
            assert await process.wait() == 1
        assert process.last_line() == "tracking: The token has been revoked."

    first, second, other = [await _token(stack, subject=name) for name in (subject, subject, "other")]
    tails = [await tail(token) for token in (first, second, other)]
    try:
        token_id = jwt.decode(first, options={"verify_signature": False})["jti"]
        finished = await run(*revoke, "--jti", token_id)
        assert finished.output.startswith(f"revoked: the token {token_id}\n"), finished
        await ends_in_time(tails[0])

        finished = await run(*revoke, "--sub", subject)
        assert finished.exit_code == 0, finished
        tails.append(await tail(await _token(stack, subject=subject)))
        await ends_in_time(tails[1])
        assert [process.exit_code for process in tails] == [1, 1, None, None]
    finally:
        for process in tails:
            await process.stop()


async def test_a_database_without_an_installation_revokes_nothing(stack: RunningStack) -> None:
    finished = await run(
        *("revoke", "--sub", "ann", "--data-dir", str(stack.data)), environment={"MONGODB_DATABASE": "wrong"}
    )
    assert finished.exit_code == 1
    assert finished.errors == "tracking: the database 'wrong' holds no installation\n"


async def test_check_is_green_after_a_load_and_red_after_a_seeded_fault(
    stack: RunningStack, tmp_path: Path
) -> None:
    order_id = f"checked-{uuid4().hex[:8]}"
    path = tmp_path / "a.csv"
    path.write_text(
        f"order_id,merchant_id,customer_name,customer_contact_ref,status\n{order_id},m,A,r,\n"
        f"{order_id},,,,picked_up\n{order_id},,,,in_transit\n"
    )
    assert (await run("load", str(path), "--data-dir", str(stack.data))).exit_code == 0

    async def check() -> Finished:
        return await run("check", "--data-dir", str(stack.data))

    finished = await check()
    assert finished.exit_code == 0, finished
    assert "no faults" in finished.output
    assert "messages waiting: 0 in the queues of commands, 0 dead letters" in finished.output

    async with open_database(stack.document["mongodb_url"], "tracking") as database:
        event = await database.order_events.find_one_and_delete({"order_id": order_id, "version": 2})
        finished = await check()
        assert event is not None
        assert finished.exit_code == 1, finished
        assert f"order {order_id}: versions are [1, 3]" in finished.output
        assert f"partition {event['partition']}: seqs are not exactly" in finished.output
        await database.order_events.insert_one(event)

        await database.orders.update_one({"_id": order_id}, {"$set": {"status": "picked_up", "version": 2}})
        finished = await check()
        assert finished.exit_code == 1, finished
        assert f"order {order_id} is not the fold of its history\n1 fault\n" in finished.output
        await database.orders.update_one({"_id": order_id}, {"$set": {"status": "in_transit", "version": 3}})

    assert (await check()).exit_code == 0


async def test_the_demo_drives_a_fleet_and_stops_by_itself(tmp_path: Path) -> None:
    finished = await run(
        "demo", "--seconds", "5", "--rate", "20", "--data-dir", str(tmp_path / "data"), *ANY_PORTS, seconds=90
    )

    assert finished.exit_code == 0, finished
    assert not finished.errors
    for text in ("live stream", "export OPERATOR_TOKEN=", "curl -s ", "created  v1 by system shop."):
        assert text in finished.output
    assert "created → picked_up" in finished.output
