"""How long archiving takes, and what callers notice of it. Prints the figures."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from statistics import quantiles
from time import monotonic

import pytest
from archive_scene import ACTOR, assert_consistent, database_of, order_with

from builders import create_command, update_command
from callers import Caller
from fixtures import PARTITIONS, Spine
from tracking.upkeep.archive import archive_orders
from tracking_order_state.domain.batch import decide_batch
from tracking_order_state.domain.decisions import Known
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.contracts.timestamps import now
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.storage.database import Database

ORDERS = int(os.environ.get("ARCHIVED_ORDERS", "20000"))

SECONDS_FOR_100_000 = 300.0

UPDATES_A_SECOND = 40

WARM_UP_SECONDS = 10.0


async def store_old_orders(database: Database, number: int) -> None:
    """Delivered orders of four events each, 500 days old."""
    by_partition: dict[int, list[str]] = {partition: [] for partition in range(PARTITIONS)}
    for one in range(number):
        order_id = f"old-{one:07}"
        by_partition[partition_of(order_id, PARTITIONS)].append(order_id)
    time = now() - timedelta(days=500)
    for partition, ids in by_partition.items():
        seq = 0
        for start in range(0, len(ids), 500):
            chunk = ids[start : start + 500]
            steps = [create_command(order_id) for order_id in chunk] + [
                update_command(order_id, status, metadata={"hub": f"hub {status}", "weight": 1.5})
                for status in ("picked_up", "in_transit", "delivered")
                for order_id in chunk
            ]
            decided = decide_batch(
                steps, Known({}, {}, {}), partition=partition, seq=seq, time=time, workflow=DEFAULT_WORKFLOW
            )
            seq += len(decided.events)
            await database.order_events.insert_many(decided.events)
            await database.orders.insert_many(list(decided.orders.values()))
        await database.partitions.update_one({"_id": partition}, {"$inc": {"seq": seq, "commits": 1}})


async def send_updates(caller: Caller, stop: asyncio.Event, taken: list[float]) -> None:
    """Reports on orders at a steady rate; notes how long each takes."""
    number = 0
    async with asyncio.TaskGroup() as group:
        while not stop.is_set():
            group.create_task(_update(caller, f"live-{number % 50}", number, taken))
            number += 1
            await asyncio.sleep(1 / UPDATES_A_SECOND)


async def _update(caller: Caller, order_id: str, number: int, taken: list[float]) -> None:
    started = monotonic()
    await caller.insist(f"/v1/orders/{order_id}/checkpoints", {"kind": "note"}, f"u{number}", order_id)
    taken.append(monotonic() - started)


def p99_ms(taken: list[float]) -> float:
    return quantiles(taken, n=100)[98] * 1000


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_old_orders_are_archived_in_time_and_updates_go_on(spine: Spine, tmp_path: Path) -> None:
    await spine.order_state.stop()
    async with database_of(spine.environment) as database:
        await store_old_orders(database, ORDERS)
    await spine.order_state.start()
    for number in range(50):
        await order_with(spine.caller, f"live-{number}")
    stop, quiet, busy = asyncio.Event(), [], []  # type: asyncio.Event, list[float], list[float]
    sending = asyncio.create_task(send_updates(spine.caller, stop, quiet))
    await asyncio.sleep(WARM_UP_SECONDS)
    stop.set()
    await sending
    stop.clear()
    sending = asyncio.create_task(send_updates(spine.caller, stop, busy))
    names = (spine.environment["MONGODB_URL"], spine.environment["MONGODB_DATABASE"])
    started = monotonic()
    done = await archive_orders(*names, tmp_path / "archive", timedelta(days=400), ACTOR)
    seconds = monotonic() - started
    stop.set()
    await sending
    print(
        f"\n{done['orders']} orders, {done['events']} events archived in {seconds:.1f} s;"
        f" updates p99 {p99_ms(quiet):.1f} ms before ({len(quiet)}),"
        f" {p99_ms(busy):.1f} ms meanwhile ({len(busy)})"
    )
    assert done["orders"] == ORDERS
    await assert_consistent(spine, tmp_path / "archive", ORDERS)
    assert seconds <= SECONDS_FOR_100_000 * ORDERS / 100_000
