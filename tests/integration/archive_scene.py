"""An installation with orders that are to be archived, and readers of all its surfaces."""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
from aiohttp import ClientSession

from callers import Caller, token
from fixtures import Spine
from openapi_checks import check_answer
from tracking.upkeep.archive import archive_orders
from tracking.upkeep.check import check_records
from tracking.upkeep.record_reader import read_partitions
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.storage.audit_trail import Actor
from tracking_shared.storage.database import Database, open_database

ACTOR = Actor("ops", "command-line")

AT_ONCE = timedelta(0)
"""Every final order is old enough."""

KILLED_AT = """
import asyncio, os, signal, sys
from datetime import timedelta
from pathlib import Path
from tracking.upkeep.archive import archive_orders
from tracking_shared.storage.audit_trail import Actor

url, name, folder, step, age = sys.argv[1:]

def on_step(reached):
    if reached == step:
        os.kill(os.getpid(), signal.SIGKILL)

older_than = timedelta(0) if age == "old" else None
asyncio.run(
    archive_orders(
        url, name, Path(folder), older_than, Actor("ops", "command-line"),
        part_orders=4, grace_seconds=0, on_step=on_step,
    )
)
"""
"""A run that is killed at a step, as the operating system kills."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads query as an operator."""

    session: ClientSession

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Status and body."""
        async with self.session.get(path, headers=headers) as response:
            body = await response.read()
            route = path.partition("?")[0]
            check_answer("query", "GET", route, status=response.status, headers=response.headers, body=body)
            return response.status, orjson.loads(body)

    async def ok(self, path: str) -> Any:
        """The body of an answer that is one."""
        status, body = await self.get(path)
        assert status == 200, body
        return body


@asynccontextmanager
async def reading(url: str, **claims: Any) -> AsyncIterator[Reader]:
    """Reads query at `url`."""
    bearer = token(**({"scope": "orders:admin", "sub": "ops"} | claims))
    async with ClientSession(url, headers={"Authorization": f"Bearer {bearer}"}) as session:
        yield Reader(session)


@asynccontextmanager
async def database_of(environment: Mapping[str, str]) -> AsyncIterator[Database]:
    """The database of an installation."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        yield database


async def final_orders(caller: Caller, number: int, **fields: Any) -> list[str]:
    """Orders that took all their steps, one after the other."""
    ids = [f"{uuid4().hex[:12]}-{number}" for number in range(number)]
    for order_id in ids:
        await order_with(caller, order_id, "picked_up", "in_transit", "delivered", **fields)
    return ids


async def order_with(caller: Caller, order_id: str, *steps: str, **fields: Any) -> None:
    """An order that took these steps."""
    body = {
        "order_id": order_id,
        "merchant_id": "m-1",
        "customer": {"name": "Ada", "contact_ref": "crm-1"},
    } | fields
    await caller.insist("/v1/orders", body, f"{order_id}.c", order_id)
    for number, status in enumerate(steps):
        update = {"status": status, "metadata": {"step": number, "weight": 1.5, "tags": ["a", None]}}
        path = f"/v1/orders/{order_id}/updates"
        await caller.insist(path, update, f"{order_id}.{number}", order_id)


async def archived(spine: Spine, folder: Path, **options: Any) -> dict[str, int]:
    """A whole run over small parts, without waiting for readers."""
    environment = spine.environment
    older_than = options.pop("older_than", AT_ONCE)
    return await archive_orders(
        environment["MONGODB_URL"],
        environment["MONGODB_DATABASE"],
        folder,
        older_than,
        ACTOR,
        **({"part_orders": 4, "grace_seconds": 0.0} | options),
    )


def run_that_is_killed(spine: Spine, folder: Path, step: str, age: str = "old") -> list[str]:
    """The command line of a run that is killed at a step."""
    environment = spine.environment
    names = (environment["MONGODB_URL"], environment["MONGODB_DATABASE"], str(folder), step, age)
    return [sys.executable, "-c", KILLED_AT, *names]


async def assert_consistent(spine: Spine, folder: Path | None, orders: int) -> None:
    """Fails unless the check of database and archive finds no fault, and so many archived orders."""
    async with database_of(spine.environment) as database:
        partitions = await read_partitions(database)
        found = await check_records(database, partitions, DEFAULT_WORKFLOW, archive=folder)
    assert (found.examples, found.faults, found.unsettled) == ([], 0, 0), found
    assert found.archived == orders, found
