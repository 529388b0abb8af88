"""The databases of the reads and the large boards: written once in bulk, then kept for the next runs."""

import asyncio
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import orjson

from benchmarks.load import BenchmarkFailed
from benchmarks.query_shape import PlannedOrder, board_order, events_of, planned_order
from benchmarks.workload import Step
from tracking.devstack.data_folder import DataFolder
from tracking.devstack.database_node import DatabaseNode
from tracking.devstack.processes import DeadlineExceeded, ProcessEnded
from tracking_shared.contracts.documents import EventDocument, OrderDocument, PartitionDocument, project
from tracking_shared.contracts.timestamps import format_time
from tracking_shared.storage.database import INDEXES, Database, driver_errors, open_database

ORDERS = 200_000
OPEN_ORDERS = 100_000
SHORT_ORDERS = 10_000

PARTITIONS = 4
BATCH_DOCUMENTS = 2_000
GENERATORS: dict[str, Callable[[int, int], PlannedOrder]] = {"query": planned_order, "board": board_order}

T = TypeVar("T")


def open_step(number: int) -> Step:
    """The order of this number (from 0) on a large board, at its version."""
    order = board_order(number)
    return Step(order.order_id, order.merchant_id, len(order.changes), format_time(order.changes[0].at))


def kept_data(cache: Path, name: str, orders: int, say: Callable[[str], None]) -> Path:
    """A data folder for the stack: that of an earlier run, or written now, in place of outdated ones."""
    folder = cache / f"{name}-{orders}-{_key()}"
    complete = folder / "complete.json"
    if not complete.exists():
        for outdated in cache.glob(f"{name}-{orders}-*"):
            shutil.rmtree(outdated)
        say(f"writing {orders:,} orders with their histories into {folder} …")
        folder.mkdir(parents=True)
        written = asyncio.run(_write(folder, events_of(orders, PARTITIONS, GENERATORS[name])))
        complete.write_bytes(orjson.dumps(written))
    known = orjson.loads(complete.read_bytes())
    say(f"{orders:,} orders with {known['events']:,} events, written in {known['seconds']:.0f} s")
    return folder


def _key() -> str:
    """Another one whenever other documents would be written, or other indexes be made."""
    shapes = [kind.__annotations__ for kind in (EventDocument, OrderDocument, PartitionDocument)]
    indexes = {name: [index.document for index in indexes] for name, indexes in INDEXES.items()}
    sources = [
        (Path(__file__).parent / f"{name}.py").read_text() for name in ("data", "documents", "query_shape")
    ]
    parts = repr((shapes, indexes, sources, version("secantusdb")))
    return hashlib.blake2b(parts.encode(), digest_size=6).hexdigest()


async def _write(folder: Path, events: Iterable[EventDocument]) -> dict[str, float]:
    started = perf_counter()
    node = DatabaseNode(DataFolder(folder).database, logs=folder)
    try:
        await node.start()
        async with open_database(node.url, "tracking") as database:
            await database.prepare(PARTITIONS)
            number = await _fill(database, events)
    except (ProcessEnded, DeadlineExceeded) as error:
        raise BenchmarkFailed(f"the database for the reads: {error}") from None
    finally:
        await node.stop()
    return {"events": number, "seconds": perf_counter() - started}


async def _fill(database: Database, events: Iterable[EventDocument]) -> int:
    current: dict[str, OrderDocument] = {}
    seqs = dict.fromkeys(range(PARTITIONS), 0)
    with driver_errors():
        for batch in batches(events):
            await database.order_events.insert_many(batch, ordered=False)
            current.update((event["order_id"], project(event)) for event in batch)
            seqs.update((event["partition"], event["seq"]) for event in batch)
        for rows in batches(current.values()):
            await database.orders.insert_many(rows, ordered=False)
        for partition, seq in seqs.items():
            await database.partitions.update_one({"_id": partition}, {"$set": {"seq": seq}})
    return sum(seqs.values())


def batches(documents: Iterable[T]) -> Iterator[list[T]]:
    """The documents, as many at a time as are written at once."""
    rest = iter(documents)
    while batch := list(islice(rest, BATCH_DOCUMENTS)):
        yield batch
