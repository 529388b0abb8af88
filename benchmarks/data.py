"""The databases of the reads and the large boards: written once in bulk, then kept for the next runs."""

import asyncio
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import orjson

from benchmarks.documents import event_document
from benchmarks.load import LoadFailed
from benchmarks.query_shape import events_of
from benchmarks.workload import MERCHANTS, STATUSES, Step
from tracking.devstack.data_folder import DataFolder
from tracking.devstack.database_node import DatabaseNode
from tracking.devstack.processes import DeadlineExceeded, ProcessEnded
from tracking_shared.contracts.documents import EventDocument, OrderDocument, PartitionDocument, project
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.contracts.timestamps import format_time
from tracking_shared.storage.database import INDEXES, Database, driver_errors, open_database

ORDERS = 200_000
OPEN_ORDERS = 100_000
SHORT_ORDERS = 10_000

PARTITIONS = 4
BATCH_DOCUMENTS = 2_000

OPEN_VERSIONS = 3
"""The orders of a board are at version 1, 2 or 3 in turn, which are open ones."""

START = datetime(2026, 1, 1, tzinfo=UTC)
GAP = timedelta(milliseconds=1700)
"""Between two orders of a board; the changes of one are as far apart as a thousand of them."""

T = TypeVar("T")


def open_step(number: int) -> Step:
    """The order of this number (from 0) on a large board, at its version."""
    at_version = 1 + number % OPEN_VERSIONS
    return Step(f"board-{number:06}", f"merchant-{number % MERCHANTS}", at_version, format_time(START))


def open_events(orders: int, partitions: int) -> Iterator[EventDocument]:
    """All events of so many open orders, with dense positions in each partition."""
    seqs = [0] * partitions
    for number in range(orders):
        step, created = open_step(number), START + number * GAP
        partition = partition_of(step.order_id, partitions)
        metadata = {"parcels": 1 + number % 3, "service": "standard", "zone": f"z-{number % 40}"}
        for at_version in range(1, step.version + 1):
            seqs[partition] += 1
            yield event_document(
                (step.order_id, step.merchant_id),
                (f"Customer {number % 30_000}", f"crm-{number:06}"),
                STATUSES[:at_version],
                (partition, seqs[partition]),
                (created, created + (at_version - 1) * 1000 * GAP),
                ("driver", f"driver-{number % 2_000}"),
                metadata if at_version == 1 else {},
                metadata,
            )


GENERATORS: dict[str, Callable[[int, int], Iterator[EventDocument]]] = {
    "query": events_of,
    "board": open_events,
}


def kept_data(cache: Path, name: str, orders: int, say: Callable[[str], None]) -> Path:
    """A data folder for the stack: that of an earlier run, or written now into `cache`, in place of others.

    Raises:
        LoadFailed, DatabaseUnavailable: it could not be written.
    """
    folder = cache / f"{name}-{orders}-{_key()}"
    complete = folder / "complete.json"
    if not complete.exists():
        for outdated in cache.glob(f"{name}-{orders}-*"):
            shutil.rmtree(outdated)
        say(f"writing {orders:,} orders with their histories into {folder} …")
        folder.mkdir(parents=True)
        written = asyncio.run(_write(folder, GENERATORS[name](orders, PARTITIONS)))
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
        raise LoadFailed(f"the database for the reads: {error}") from None
    finally:
        await node.stop()
    return {"events": number, "seconds": perf_counter() - started}


async def _fill(database: Database, events: Iterable[EventDocument]) -> int:
    current: dict[str, OrderDocument] = {}
    seqs = dict.fromkeys(range(PARTITIONS), 0)
    with driver_errors():
        for batch in _batches(events):
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
