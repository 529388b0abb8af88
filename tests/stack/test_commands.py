"""`token`, `revoke`, `load`, `tail`, `check` and `demo` against a stack that runs."""

import asyncio
import csv
import gzip
import json
import os
from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest
from aiohttp import ClientSession
from command import ANY_PORTS, RunningStack

from command_line import Finished, launch, run
from tracking.cli.token_commands import CLOSED_SECONDS
from tracking.devstack.processes import ChildProcess, wait_until
from tracking_shared.storage.database import open_database


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


async def test_what_is_refused_or_left_out_is_named_and_decides_the_exit_code(
    stack: RunningStack, tmp_path: Path
) -> None:
    order_id = uuid4().hex
    path = tmp_path / "a.csv"
    path.write_text(
        f"order_id,merchant_id,customer_name,customer_contact_ref,status\n{order_id},m,A,r,\n"
        f"{order_id},,,,delivered\n#{order_id},,,,delivered\n{order_id},,,,picked_up,x\n"
    )
    command = ("load", str(path), "--data-dir", str(stack.data))

    finished = await run(*command)
    assert finished.exit_code == 2, finished
    assert "rejected 2 (1 invalid-transition, 1 validation-failed)" in finished.output
    assert "not sent: 1 (1 more fields than the header)" in finished.output
    assert f"{path}:3: The order is created; it cannot become delivered." in finished.output
    assert f'{path}:4: order_id "#{order_id}": must be 1 to 64 of letters, digits' in finished.output
    assert f'{path}:5: "x": more fields than the header' in finished.output
    assert (await run(*command, "--allow-refused")).exit_code == 0

    checked = await run("load", str(path), "--dry-run")
    assert checked.exit_code == 2, checked
    assert "dry run, nothing was sent: orders 1, updates 2: faults 3" in checked.output


async def test_a_delivery_that_came_too_early_is_applied_when_a_later_file_has_all_steps(
    stack: RunningStack, tmp_path: Path
) -> None:
    order_id = uuid4().hex
    header = "order_id;merchant_id;customer_name;customer_contact_ref;status;occurred_at"
    create, delivered = (
        f"{order_id};acme;J\u00fcrgen;crm-1;;1.11.2026 08:00",
        f"{order_id};;;;delivered;04.11.2026",
    )
    steps = [f"{order_id};;;;picked_up;2.11.2026 08:00", f"{order_id};;;;in_transit;3.11.2026 08:00"]
    command = ("load", "-", "--time-zone", "Europe/Berlin", "--data-dir", str(stack.data))

    first = await run(*command, stdin="\r\n".join([header, create, delivered]).encode("cp1252"))
    assert first.exit_code == 2, first
    assert "standard input: CSV separated by semicolons, Windows-1252" in first.errors
    newest_first = [header, delivered, *reversed(steps), create]
    last = await run(*command, stdin="\r\n".join(newest_first).encode("utf-16"))

    assert last.exit_code == 0, last
    assert "applied 3, duplicate 1, rejected 0" in last.output
    history = ["created", "picked_up", "in_transit", "delivered"]
    assert await _history(stack, order_id, await _token(stack)) == history


@pytest.mark.parametrize(("accept", "suffix"), [("text/csv", "csv"), ("application/x-ndjson", "ndjson")])
async def test_an_export_can_be_loaded_where_its_orders_are_not(
    stack: RunningStack, tmp_path: Path, accept: str, suffix: str
) -> None:
    first, second = f"x{uuid4().hex[:8]}", f"y{uuid4().hex[:8]}"
    header = "order_id,merchant_id,customer_name,customer_contact_ref,status,metadata\n"
    rows = [f'{first}-{n},{first},"Beck, {n}",+49 {n},,"{{""parcels"": {n}}}"\n' for n in range(4)]
    steps = [f"{first}-{n},,,,{status},\n" for n, status in enumerate(["picked_up", "cancelled"])]
    (tmp_path / "a.csv").write_text("".join([header, *rows, *steps, f"{first}-0,,,,in_transit,\n"]))
    to_stack = ("--data-dir", str(stack.data))
    assert (await run("load", str(tmp_path / "a.csv"), *to_stack)).exit_code == 0

    exported = await _export(stack, first, accept)
    copy = tmp_path / f"copy.{suffix}"
    copy.write_text(exported.replace(first, second))
    finished = await run("load", str(copy), *to_stack)

    assert finished.exit_code == 0, finished
    assert "orders 4, updates 2: applied 6" in finished.output
    assert "steps inferred on the way to a status: 1" in finished.output
    again = await _export(stack, second, accept)
    assert _told(again.replace(second, first), suffix) == _told(exported, suffix)
    (tmp_path / "again").write_text(again)
    repeated = await run("load", str(tmp_path / "again"), *to_stack)
    assert repeated.exit_code == 0, repeated
    assert "applied 0," in repeated.output


async def _export(stack: RunningStack, merchant: str, accept: str) -> str:
    headers = {"Authorization": f"Bearer {await _token(stack)}", "Accept": accept}
    query = {"merchant_id": merchant} | ({"bom": "true"} if accept == "text/csv" else {})
    url = f"{stack.document['query']}/v1/orders"
    async with ClientSession() as session, session.get(url, headers=headers, params=query) as response:
        assert response.status == 200, await response.text()
        return (await response.read()).decode()


def _told(exported: str, suffix: str) -> list[Any]:
    """What an export says of orders, but for when and by whom it was recorded here."""
    if suffix == "csv":
        rows = list(csv.DictReader(StringIO(exported.removeprefix("\ufeff"))))
        orders = [row | {"metadata": json.loads(row["metadata"])} for row in rows]
    else:
        orders = [json.loads(line) for line in exported.splitlines()]
    for order in orders:
        order["metadata"].pop("steps_inferred", None)
    shown = (
        "order_id",
        "merchant_id",
        "customer",
        "customer_name",
        "customer_contact_ref",
        "status",
        "metadata",
    )
    return sorted(repr([order.get(name) for name in shown]) for order in orders)


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
    tail = launch(
        *("tail", "--merchant", merchant, "--data-dir", str(stack.data)), log_path=tmp_path / "tail.log"
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

        async def both_are_picked_up() -> bool:
            return tail.log_path.read_text().count("created → picked_up") == 2

        await wait_until(both_are_picked_up, seconds=40, what="the second update in the tail")
    finally:
        await tail.stop()
    assert tail.log_path.read_text().count("created → picked_up") == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--status", "lost"), "/filter/status must be one of"),
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
        process = launch(
            *("tail", "--data-dir", str(stack.data), "--token", token),
            log_path=tmp_path / f"{uuid4().hex}.log",
        )

        async def is_live() -> bool:
            return "live from here" in process.log_path.read_text()

        await wait_until(is_live, seconds=40, what="the tail")
        return process

    async def ends_in_time(process: ChildProcess) -> None:
        async with asyncio.timeout(CLOSED_SECONDS + 15):  # the process itself needs a moment to end
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
