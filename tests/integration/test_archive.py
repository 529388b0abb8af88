"""Final orders are archived and restored while everything runs: nothing is lost, nothing is there twice, and
every surface answers as the documentation says.
"""

import asyncio
import re
import shlex
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pyarrow.parquet as pq
import pytest
from archive_scene import (
    ACTOR,
    Reader,
    archived,
    assert_consistent,
    database_of,
    final_orders,
    order_with,
    reading,
    run_that_is_killed,
)
from websockets.asyncio.client import connect as connect_stream

from callers import eventually, many_lives, token
from command_line import run
from fixtures import Spine, StartService
from tracking.upkeep.archive import NotArchived
from tracking.upkeep.restore import restore_order
from tracking_shared.contracts.archive import decode_manifest
from tracking_shared.storage.archive_files import sha256_of
from tracking_shared.storage.audit_trail import AuditTrail
from tracking_shared.storage.erasures import request_erasure, wait_for_erasure

PAGE = Path(__file__).parents[2] / "docs/archive.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
async def reader(spine: Spine, start_service: StartService, folder: Path) -> AsyncIterator[Reader]:
    query = await start_service("query", ARCHIVE_DIR=str(folder))
    async with reading(query.url) as reader:
        yield reader


async def restored(spine: Spine, folder: Path, order_id: str) -> dict[str, Any]:
    environment = spine.environment
    names = (environment["MONGODB_URL"], environment["MONGODB_DATABASE"])
    return await restore_order(*names, folder, order_id, ACTOR)


def files_in(folder: Path) -> list[Path]:
    """The files of the parts."""
    return sorted(folder.glob("part-*"))


async def answers_of(reader: Reader, order_id: str) -> list[Any]:
    """The order, its history, and itself as of each of its changes and before them."""
    path = f"/v1/orders/{order_id}"
    history = await reader.ok(f"{path}/history")
    times = [item["recorded_at"] for item in history["items"]]
    past = [await reader.ok(f"{path}?at={time}") for time in times]
    assert (await reader.get(f"{path}?at=2001-01-01T00:00:00Z"))[0] == 404
    return [await reader.ok(path), history, *past]


async def test_an_archived_order_is_answered_as_before_and_comes_back_as_it_was(
    spine: Spine, reader: Reader, folder: Path
) -> None:
    ids = await final_orders(spine.caller, 6, reference="WH/OUT/1")
    active = uuid4().hex
    await order_with(spine.caller, active, "picked_up")
    before = {order_id: await answers_of(reader, order_id) for order_id in ids}
    beginning = await reader.ok("/v1/events?limit=1")
    assert (await archived(spine, folder))["orders"] == 6
    async with database_of(spine.environment) as database:
        left = [event["order_id"] async for event in database.order_events.find({})]
        assert set(left) == {active}
        assert [order["_id"] async for order in database.orders.find({})] == [active]
        assert await database.archivings.find({}).to_list() == []
    for order_id in ids:
        found = await answers_of(reader, order_id)
        assert found == [answer | {"archived": True} for answer in before[order_id]]
    page = await reader.ok(f"/v1/orders/{ids[0]}/history?limit=3")
    rest = await reader.ok(f"/v1/orders/{ids[0]}/history?limit=3&cursor={page['next_cursor']}")
    assert page["items"] + rest["items"] == before[ids[0]][1]["items"]

    listed = await reader.ok("/v1/orders")
    assert [order["order_id"] for order in listed["items"]] == [active]
    report = await reader.ok("/v1/reports/status-counts?from=2020-01-01T00:00:00Z&to=2050-01-01T00:00:00Z")
    assert report["archived_until"] == max(
        item["recorded_at"] for b in before.values() for item in b[1]["items"]
    )
    future = await reader.ok("/v1/reports/status-counts?from=2049-01-01T00:00:00Z&to=2050-01-01T00:00:00Z")
    assert "archived_until" not in future
    status, problem = await reader.get(f"/v1/events?after={beginning['cursor']}")
    assert (status, problem["type"]) == (410, "/problems/cursor-expired")
    log = await reader.ok("/v1/events")
    assert {event["data"]["order_id"] for event in log["events"]} <= {active}
    assert (await reader.get(f"/v1/events?after={log['cursor']}"))[0] == 200
    await assert_consistent(spine, folder, 6)
    await assert_consistent(spine, None, 6)

    for order_id in ids:
        assert await restored(spine, folder, order_id) == {"order_id": order_id, "events": 4}
        assert await restored(spine, folder, order_id) == {"order_id": order_id, "events": 0}
        assert await answers_of(reader, order_id) == before[order_id]
    await assert_consistent(spine, folder, 0)
    answer = await spine.caller.post(
        f"/v1/orders/{ids[0]}/corrections",
        {"status": "in_transit", "reason": "came back"},
        bearer=token(scope="orders:write orders:correct"),
    )
    assert (answer.status, answer.body["version"]) == (200, 5)
    repeat = await spine.caller.insist(f"/v1/orders/{ids[1]}/updates", _delivered(), f"{ids[1]}.2", ids[1])
    assert repeat.body["outcome"] == "duplicate"
    assert (await archived(spine, folder))["orders"] == 5
    await assert_consistent(spine, folder, 5)


def _delivered() -> dict[str, Any]:
    return {"status": "delivered", "metadata": {"step": 2, "weight": 1.5, "tags": ["a", None]}}


async def test_updates_of_an_archived_order_are_refused_also_from_memory(
    spine: Spine, reader: Reader, folder: Path
) -> None:
    [order_id] = await final_orders(spine.caller, 1)
    await archived(spine, folder)
    caller, path = spine.caller, f"/v1/orders/{order_id}"
    correcting = token(scope="orders:write orders:correct")
    body = {"order_id": order_id, "merchant_id": "m-1", "customer": {"name": "Eve", "contact_ref": "x"}}
    answers = [
        await caller.post(f"{path}/updates", {"status": "cancelled"}, Idempotency_Key="new"),
        await caller.post(f"{path}/updates", {"status": "cancelled"}, Idempotency_Key="new"),
        await caller.post(f"{path}/updates", _delivered(), Idempotency_Key=f"{order_id}.2"),
        await caller.post(f"{path}/checkpoints", {"kind": "note"}),
        await caller.post(f"{path}/corrections", {"status": "created", "reason": "x"}, bearer=correcting),
        await caller.post("/v1/orders", body),
    ]
    for answer in answers:
        assert (answer.status, answer.body["type"]) == (409, "/problems/order-archived"), answer
    stranger = token(merchants=["m-2"])
    foreign = await caller.post(f"{path}/updates", {"status": "cancelled"}, bearer=stranger)
    assert (foreign.status, foreign.body["type"]) == (404, "/problems/order-not-found")
    outcome = await reader.ok(f"/v1/updates/{order_id}/new")
    assert outcome["problem"]["type"] == "/problems/order-archived"
    applied = await reader.ok(f"/v1/updates/{order_id}/{order_id}.2")
    assert (applied["outcome"], applied["version"]) == ("applied", 4)
    await restored(spine, folder, order_id)
    again = await caller.post(f"{path}/updates", _delivered(), Idempotency_Key=f"{order_id}.2")
    assert (again.status, again.headers["Idempotent-Replayed"]) == (200, "true")
    await assert_consistent(spine, folder, 0)


async def test_without_its_folder_or_with_a_damaged_file_query_says_so(
    spine: Spine, reader: Reader, start_service: StartService, folder: Path
) -> None:
    [order_id] = await final_orders(spine.caller, 1)
    await archived(spine, folder)
    without = await start_service("query")
    async with reading(without.url) as other:
        status, problem = await other.get(f"/v1/orders/{order_id}")
        assert (status, problem["type"]) == (404, "/problems/order-not-found")
        assert "archived" in problem["detail"]
    async with reading(str(reader.session._base_url), merchants=["m-2"], scope="orders:read") as stranger:
        status, problem = await stranger.get(f"/v1/orders/{order_id}")
        assert (status, "archived" in problem["detail"]) == (404, False)
    [file] = files_in(folder)
    content = file.read_bytes()
    file.write_bytes(content[:40])
    status, problem = await reader.get(f"/v1/orders/{order_id}")
    assert (status, problem["type"]) == (503, "/problems/archive-unavailable")
    with pytest.raises(AssertionError, match="SHA-256"):
        await assert_consistent(spine, folder, 1)
    file.write_bytes(content)
    await assert_consistent(spine, folder, 1)


STEPS = ("written", "listed", "asked 0", "requested", "left", "purged 0", "unrequested", "done")


async def test_killed_at_any_step_the_next_run_continues_and_nothing_is_lost_or_there_twice(
    spine: Spine, reader: Reader, folder: Path
) -> None:
    everything: list[str] = []
    for step in STEPS:
        ids = await final_orders(spine.caller, 5)
        histories = {order_id: await reader.ok(f"/v1/orders/{order_id}/history") for order_id in ids}
        command = run_that_is_killed(spine, folder, step)
        killed = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=60)
        assert killed.returncode == -9, (step, killed.stderr)
        for order_id in ids:
            found = await reader.ok(f"/v1/orders/{order_id}/history")
            assert found["items"] == histories[order_id]["items"], step
        await archived(spine, folder)
        everything += ids
        await assert_consistent(spine, folder, len(everything))
        for order_id in ids:
            assert await reader.ok(f"/v1/orders/{order_id}/history") == histories[order_id] | {
                "archived": True
            }
    async with database_of(spine.environment) as database:
        assert await database.order_events.find({}).to_list() == []
    manifest = decode_manifest((folder / "manifest.json").read_bytes())
    assert sum(part.left for part in manifest.parts.values()) == len(everything)
    listed = {part.file: part.sha256 for part in manifest.parts.values()}
    assert {path.name: sha256_of(path) for path in files_in(folder)} == listed


async def test_an_order_that_changes_after_it_was_written_stays(spine: Spine, folder: Path) -> None:
    ids = await final_orders(spine.caller, 2)
    command = run_that_is_killed(spine, folder, "listed")
    await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=60)
    answer = await spine.caller.post(f"/v1/orders/{ids[0]}/checkpoints", {"kind": "note", "message": "seen"})
    assert answer.status == 200
    assert (await archived(spine, folder, older_than=None)) | {"events": 0} == {
        "orders": 1,
        "kept": 1,
        "events": 0,
        "erased_events": 0,
    }
    async with database_of(spine.environment) as database:
        assert [order["_id"] async for order in database.orders.find({})] == [ids[0]]
    await assert_consistent(spine, folder, 1)
    await archived(spine, folder)
    await assert_consistent(spine, folder, 2)


async def test_while_orders_change_and_order_state_is_killed_every_order_is_archived_once(
    spine: Spine, folder: Path
) -> None:
    async with asyncio.TaskGroup() as group:
        living = group.create_task(many_lives(spine.caller, 40))
        for _ in range(3):
            await archived(spine, folder)
        await spine.order_state.kill()
        await spine.order_state.start()
    async with database_of(spine.environment) as database:

        async def are_final() -> bool:
            orders = await database.orders.find({}, {"active": 1}).to_list()
            left = await database.archived_orders.count_documents({})
            return len(orders) + left == len(living.result()) and not any(one["active"] for one in orders)

        await eventually(are_final)
    await archived(spine, folder)
    await assert_consistent(spine, folder, len(living.result()))


async def test_a_stream_from_before_the_beginning_of_the_log_begins_anew(
    spine: Spine, start_service: StartService, folder: Path
) -> None:
    notifier = await start_service("notifier")
    stream = notifier.url.replace("http", "ws") + "/v1/stream"
    subscribe = {"type": "subscribe", "token": token(scope="orders:admin"), "filter": {"active": None}}

    async def first_messages(**more: Any) -> list[dict[str, Any]]:
        async with connect_stream(stream) as socket:
            await socket.send(orjson.dumps(subscribe | more).decode())
            messages: list[dict[str, Any]] = []
            while not messages or messages[-1]["type"] != "live":
                messages.append(orjson.loads(await asyncio.wait_for(socket.recv(), 20)))
            return messages

    cursor = (await first_messages())[-1]["cursor"]
    active = uuid4().hex
    await order_with(spine.caller, active, "picked_up")
    await final_orders(spine.caller, 3)
    await archived(spine, folder)

    async def expired() -> list[dict[str, Any]] | None:
        messages = await first_messages(after=cursor)
        return messages if messages[0]["type"] == "resync" else None

    resync, snapshot, live = await eventually(expired)
    assert resync["reason"] == "position-expired"
    assert [order["order_id"] for order in snapshot["orders"]] == [active]
    assert [message["type"] for message in await first_messages(after=live["cursor"])] == ["live"]


async def test_an_erased_person_is_in_no_archive(spine: Spine, reader: Reader, folder: Path) -> None:
    person = {"customer": {"name": "Zaphod Beeblebrox", "contact_ref": "+49 30/987654"}}
    [erased] = await final_orders(spine.caller, 1, **person)
    [other] = await final_orders(spine.caller, 1)
    await archived(spine, folder)
    before = await reader.ok(f"/v1/orders/{erased}")
    async with database_of(spine.environment) as database:
        audit = AuditTrail(database)
        request = await request_erasure(database, audit, ACTOR, "+49 30/987654", None)
        shown = await reader.ok(f"/v1/orders/{erased}")
        assert shown == before | {"customer": None, "erased_at": shown["erased_at"]}
        await wait_for_erasure(database, request)
    assert (await reader.ok(f"/v1/orders/{erased}"))["customer"] is None
    assert (await archived(spine, folder, older_than=None))["erased_events"] == 4
    [file] = files_in(folder)
    assert "Beeblebrox" not in repr(pq.read_table(file).to_pylist())
    assert b"Beeblebrox" not in file.read_bytes()
    assert (await archived(spine, folder, older_than=None))["erased_events"] == 0
    assert (await reader.ok(f"/v1/orders/{other}"))["customer"] == {"name": "Ada", "contact_ref": "crm-1"}
    await assert_consistent(spine, folder, 2)
    await restored(spine, folder, erased)
    assert (await reader.ok(f"/v1/orders/{erased}"))["customer"] is None


async def test_a_person_is_erased_in_what_a_killed_run_has_left(
    spine: Spine, reader: Reader, folder: Path
) -> None:
    person = {"customer": {"name": "Zaphod Beeblebrox", "contact_ref": "+49 30/987654"}}
    ids = [*await final_orders(spine.caller, 2, **person), *await final_orders(spine.caller, 1)]
    command = run_that_is_killed(spine, folder, "left")
    await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=60)
    async with database_of(spine.environment) as database:
        assert await database.archived_orders.count_documents({}) == 3
        request = await request_erasure(database, AuditTrail(database), ACTOR, "+49 30/987654", None)
        await wait_for_erasure(database, request)
        assert await database.order_events.count_documents({}) == 12
        for name in await database.raw.list_collection_names():
            for document in await database.raw[name].find({}).to_list():
                assert "eeblebrox" not in repr(document), name
        assert await database.order_events.count_documents({"customer": None}) == 8
    await assert_consistent(spine, None, 3)
    assert (await archived(spine, folder, older_than=None))["erased_events"] == 8
    await assert_consistent(spine, folder, 3)
    for order_id in ids[:2]:
        assert (await reader.ok(f"/v1/orders/{order_id}"))["customer"] is None


async def test_a_restored_order_lacks_a_customer_who_was_erased_meanwhile(
    spine: Spine, reader: Reader, folder: Path
) -> None:
    [order_id] = await final_orders(spine.caller, 1)
    await archived(spine, folder)
    async with database_of(spine.environment) as database:
        request = await request_erasure(database, AuditTrail(database), ACTOR, "crm-1", None)
        await wait_for_erasure(database, request)
    await restored(spine, folder, order_id)
    assert (await reader.ok(f"/v1/orders/{order_id}"))["customer"] is None
    await assert_consistent(spine, folder, 0)


async def test_two_runs_do_not_share_a_folder_and_another_installation_is_refused(
    spine: Spine, folder: Path
) -> None:
    await final_orders(spine.caller, 1)
    await archived(spine, folder)
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(manifest.replace('"epoch": "', '"epoch": "x'))
    with pytest.raises(NotArchived, match="another installation"):
        await archived(spine, folder)
    with pytest.raises(NotArchived, match="no order"):
        await restored(spine, folder, "never-was")


async def test_without_order_state_nothing_leaves_and_the_command_says_so(spine: Spine, folder: Path) -> None:
    await final_orders(spine.caller, 1)
    await spine.order_state.stop()
    with pytest.raises(NotArchived, match="order-state"):
        await archived(spine, folder, patience_seconds=0.5)
    await assert_consistent(spine, folder, 0)
    await spine.order_state.start()
    await archived(spine, folder, older_than=None)
    await assert_consistent(spine, folder, 1)


def commands_of_the_page(folder: Path, order_id: str) -> list[list[str]]:
    """The commands of `docs/archive.md`, for this folder and order, and for orders of any age."""
    lines = re.findall(r"^tracking (.*)$", PAGE.read_text(), re.MULTILINE)
    given = {"/srv/archive": str(folder), "acme-1001": order_id, "400d": "0s"}
    return [[given.get(word, word) for word in shlex.split(line)] for line in lines]


async def test_the_commands_of_the_page(spine: Spine, folder: Path) -> None:
    [order_id] = await final_orders(spine.caller, 1)
    environment = spine.environment | {"ARCHIVE_DIR": str(folder)}
    young = await run("archive", "--older-than", "400d", environment=environment)
    assert orjson.loads(young.output)["orders"] == 0
    archiving, restoring = commands_of_the_page(folder, order_id)
    done = await run(*archiving, environment=spine.environment)
    assert orjson.loads(done.output) == {"orders": 1, "events": 4, "kept": 0, "erased_events": 0}, done
    checked = await run("check", environment=environment)
    assert "archived: 1 orders\n" in checked.output, checked
    assert checked.exit_code == 0
    back = await run(*restoring, environment=spine.environment)
    assert orjson.loads(back.output) == {"order_id": order_id, "events": 4}
    audit = await run("audit", environment=environment)
    assert "orders.archived" in audit.output
    assert "order.restored" in audit.output
    erased = await run("erase", "--customer-ref", "crm-1", environment=environment)
    assert "events erased in the archive: 4" in erased.output
