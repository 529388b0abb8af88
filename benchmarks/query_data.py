"""The database that the reads are measured on: filled once, then kept for the next runs.

The documents are written as order-state would have written them, but in bulk and without it.
"""

import asyncio
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import orjson

from benchmarks import query_shape
from benchmarks.load_process import LoadFailed
from benchmarks.query_shape import events_of
from shared.database import INDEXES, Database, driver_errors, open_database
from shared.documents import EventDocument, OrderDocument, PartitionDocument, project
from tracking.data_folder import DataFolder
from tracking.database_node import DatabaseNode
from tracking.processes import DeadlineExceeded, ProcessEnded

ORDERS = 200_000
SHORT_ORDERS = 10_000

PARTITIONS = 4

BATCH_DOCUMENTS = 2_000

_COMPLETE = "complete.json"

T = TypeVar("T")


@dataclass(frozen=True)
class QueryData:
    """A folder for `tracking up`, whose database holds the world."""

    folder: Path
    orders: int
    events: int
    seconds: float
    """How long it took to write, when it was written."""


def query_data(cache: Path, orders: int, say: Callable[[str], None]) -> QueryData:
    """The data of so many orders: that of an earlier run, or written now into `cache`, in place of others.

    Raises:
        LoadFailed, DatabaseUnavailable: it could not be written.
    """
    folder = cache / f"query-{orders}-{_key()}"
    complete = folder / _COMPLETE
    if not complete.exists():
        for outdated in cache.glob(f"query-{orders}-*"):
            shutil.rmtree(outdated)
        say(f"writing {orders:,} orders with their histories into {folder} …")
        folder.mkdir(parents=True)
        complete.write_bytes(orjson.dumps(asyncio.run(_write(folder, orders))))
    known = orjson.loads(complete.read_bytes())
    say(f"{orders:,} orders with {known['events']:,} events, written in {known['seconds']:.0f} s")
    return QueryData(folder, orders, known["events"], known["seconds"])


def _key() -> str:
    """Another one whenever other documents would be written, or other indexes be made."""
    shapes = [kind.__annotations__ for kind in (EventDocument, OrderDocument, PartitionDocument)]
    indexes = {name: [index.document for index in indexes] for name, indexes in INDEXES.items()}
    world = Path(query_shape.__file__).read_text()
    parts = repr((shapes, indexes, world, PARTITIONS, version("secantusdb")))
    return hashlib.blake2b(parts.encode(), digest_size=6).hexdigest()


async def _write(folder: Path, orders: int) -> dict[str, float]:
    started = perf_counter()
    node = DatabaseNode(DataFolder(folder).database, logs=folder)
    try:
        await node.start()
        async with open_database(node.url, "tracking") as database:
            await database.prepare(PARTITIONS)
            events = await _fill(database, orders)
    except (ProcessEnded, DeadlineExceeded) as error:
        raise LoadFailed(f"the database for the reads: {error}") from None
    finally:
        await node.stop()
    return {"events": events, "seconds": perf_counter() - started}


async def _fill(database: Database, orders: int) -> int:
    current: dict[str, OrderDocument] = {}
    seqs = dict.fromkeys(range(PARTITIONS), 0)
    with driver_errors():
        for batch in _batches(events_of(orders, PARTITIONS)):
            await database.order_events.insert_many(batch, ordered=False)
            current.update((event["order_id"], project(event)) for event in batch)
            seqs.update((event["partition"], event["seq"]) for event in batch)
        for rows in _batches(current.values()):
            await database.orders.insert_many(rows, ordered=False)
        for partition, seq in seqs.items():
            await database.partitions.update_one({"_id": partition}, {"$set": {"seq": seq}})
    return sum(seqs.values())


def _batches(documents: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(documents)
    while batch := list(islice(rest, BATCH_DOCUMENTS)):
        yield batch
