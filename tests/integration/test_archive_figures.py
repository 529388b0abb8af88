"""How long archiving takes, and what callers notice of it. Prints the figures."""

import asyncio
import os
from collections.abc import Awaitable
from datetime import datetime, timedelta
from pathlib import Path
from statistics import quantiles
from time import monotonic
from typing import Any, TypeVar
from uuid import uuid4

import orjson
import pytest
from archive_scene import assert_consistent, database_of, order_with
from pymongo import WriteConcern

from builders import create_command, update_command
from callers import Caller
from command_line import run
from fixtures import PARTITIONS, Spine
from tracking_order_state.domain.batch import decide_batch
from tracking_order_state.domain.decisions import Decisions, Known
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.contracts.texts import words_of_event
from tracking_shared.contracts.timestamps import now
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.storage.database import Database

T = TypeVar("T")

ORDERS = int(os.environ.get("ARCHIVED_ORDERS", "20000"))

SECONDS_FOR_100_000 = 300.0

SECONDS_OF_A_RUN = 20.0
"""However few orders there are: above all the time between the start of the log and the removal of events."""

RUN_SECONDS = 600.0

UPDATES_A_SECOND = 40

WARM_UP_SECONDS, QUIET_SECONDS = 5.0, 20.0

STORED_AT_ONCE = 250


async def store_old_orders(database: Database, number: int) -> None:
    """Delivered orders of four events each, 500 days old, that can be searched."""
    by_partition: dict[int, list[str]] = {partition: [] for partition in range(PARTITIONS)}
    for one in range(number):
        order_id = f"old-{one:07}"
        by_partition[partition_of(order_id, PARTITIONS)].append(order_id)
    time = now() - timedelta(days=500)
    # Together: the database stores the ones while the others are made.
    await asyncio.gather(*(_store_partition(database, *one, time) for one in by_partition.items()))


async def _store_partition(database: Database, partition: int, order_ids: list[str], time: datetime) -> None:
    seq = 0
    for start in range(0, len(order_ids), STORED_AT_ONCE):
        decided = lives_of(order_ids[start : start + STORED_AT_ONCE], partition, seq, time)
        seq += len(decided.events)
        await store(database, decided)
    await database.partitions.update_one({"_id": partition}, {"$inc": {"seq": seq, "commits": 1}})
    await database.search_progress.insert_one({"_id": partition, "seq": seq})


def lives_of(order_ids: list[str], partition: int, seq: int, time: datetime) -> Decisions:
    """The lives of new orders, behind `seq`."""
    steps = [create_command(order_id) for order_id in order_ids] + [
        update_command(order_id, status, metadata={"hub": f"hub {status}", "weight": 1.5})
        for status in ("picked_up", "in_transit", "delivered")
        for order_id in order_ids
    ]
    known = Known({}, {}, {})
    return decide_batch(steps, known, partition=partition, seq=seq, time=time, workflow=DEFAULT_WORKFLOW)


async def store(database: Database, decided: Decisions) -> None:
    """Stores what was decided, without waiting for the disk."""
    newest = {event["order_id"]: event for event in decided.events}
    words = [
        {
            "_id": order_id,
            "merchant_id": event["merchant_id"],
            "created_at": event["created_at"],
            "words": words_of_event(event),
        }
        for order_id, event in newest.items()
    ]
    stored: dict[str, list[Any]] = {
        "order_events": decided.events,
        "orders": list(decided.orders.values()),
        "order_search": words,
    }
    for name, documents in stored.items():
        collection = database.raw[name].with_options(write_concern=WriteConcern(1))
        await collection.insert_many(documents, ordered=False)


async def send_updates(caller: Caller, stop: asyncio.Event, taken: list[float]) -> None:
    """Reports on orders at a steady rate; notes how long each takes."""
    number = 0
    async with asyncio.TaskGroup() as group:
        while not stop.is_set():
            group.create_task(_update(caller, f"live-{number % 50}", taken))
            number += 1
            await asyncio.sleep(1 / UPDATES_A_SECOND)


async def _update(caller: Caller, order_id: str, taken: list[float]) -> None:
    started = monotonic()
    await caller.insist(f"/v1/orders/{order_id}/checkpoints", {"kind": "note"}, uuid4().hex, order_id)
    taken.append(monotonic() - started)


async def measured(caller: Caller, meanwhile: Awaitable[T]) -> tuple[T, list[float]]:
    """The result of `meanwhile`, and how long each of the updates took that were sent until then."""
    stop, taken = asyncio.Event(), list[float]()
    sending = asyncio.create_task(send_updates(caller, stop, taken))
    try:
        return await meanwhile, taken
    finally:
        stop.set()
        await sending


def p99_ms(taken: list[float]) -> float:
    return quantiles(taken, n=100)[98] * 1000


async def archive(spine: Spine, folder: Path) -> dict[str, int]:
    """Runs the command, as a process of its own, whose work does not hold up the sending of updates."""
    command = ("archive", "--older-than", "400d", "--to", str(folder))
    done = await run(*command, seconds=RUN_SECONDS, environment=spine.environment)
    assert done.exit_code == 0, done
    counts: dict[str, int] = orjson.loads(done.output)
    return counts


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_old_orders_are_archived_in_time_and_updates_go_on(
    spine: Spine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await spine.order_state.stop()
    async with database_of(spine.environment) as database:
        await store_old_orders(database, ORDERS)
    await spine.order_state.start()
    for number in range(50):
        await order_with(spine.caller, f"live-{number}")
    await measured(spine.caller, asyncio.sleep(WARM_UP_SECONDS))
    _, before = await measured(spine.caller, asyncio.sleep(QUIET_SECONDS))
    started = monotonic()
    done, busy = await measured(spine.caller, archive(spine, tmp_path / "archive"))
    seconds = monotonic() - started
    _, after = await measured(spine.caller, asyncio.sleep(QUIET_SECONDS))
    with capsys.disabled():
        print(
            f"\n{done['orders']} orders, {done['events']} events archived in {seconds:.1f} s;"
            f" updates p99 {p99_ms(before):.1f} ms before ({len(before)}), {p99_ms(busy):.1f} ms meanwhile"
            f" ({len(busy)}), {p99_ms(after):.1f} ms after it ({len(after)})"
        )
    assert done["orders"] == ORDERS
    await assert_consistent(spine, tmp_path / "archive", ORDERS)
    assert seconds <= SECONDS_FOR_100_000 * ORDERS / 100_000 + SECONDS_OF_A_RUN
