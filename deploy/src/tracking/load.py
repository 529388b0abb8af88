"""Loading files: operations go out in several lanes, those of one order always through the same lane.

An operation is sent only after the one before it on the same order was decided. Otherwise an
outage between two of them could have the second one refused for lack of the first, for good.
"""

import asyncio
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic

from aiohttp import ClientSession

from tracking.batch_client import BatchClient, Result
from tracking.problem_lines import problem_line
from tracking.records import Record

WINDOW_RECORDS = 2000
"""Of one lane, read ahead so that a batch finds enough different orders. About 1 KB each."""

BATCH_RECORDS = 500
BATCH_BYTES = 900_000
"""Below the server's bounds: 1,000 operations and 1 MiB."""

MAX_EXAMPLES = 10


@dataclass(slots=True)
class Summary:
    """What became of everything that was read."""

    orders: int = 0
    updates: int = 0
    applied: int = 0
    duplicate: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """By the slug of the problem."""
    unreadable: int = 0
    examples: list[str] = field(default_factory=list)
    """The first few refusals and faults, with their places."""
    started: float = field(default_factory=monotonic)

    @property
    def decided(self) -> int:
        """Operations with a final outcome."""
        return self.orders + self.updates

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return monotonic() - self.started

    def add_fault(self, record: Record) -> None:
        """Counts a record that could not be read."""
        self.unreadable += 1
        self._add_example(f"{record.place}: {record.fault}")

    def add_result(self, record: Record, result: Result) -> None:
        """Counts an operation that was decided."""
        if record.creates:
            self.orders += 1
        else:
            self.updates += 1
        if result["outcome"] == "applied":
            self.applied += 1
        elif result["outcome"] == "duplicate":
            self.duplicate += 1
        else:
            problem = result["problem"]
            self.rejected[problem["type"].rpartition("/")[2]] += 1
            self._add_example(f"{record.place}: {problem_line(problem)}")

    def _add_example(self, line: str) -> None:
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(line)


OnDecided = Callable[[Record], None]


async def load(
    records: Iterable[Record],
    *,
    ingest_url: str,
    token: str,
    lanes: int,
    summary: Summary,
    on_decided: OnDecided,
) -> None:
    """Sends all records, bounded, and counts into `summary` what became of them.

    Raises:
        BatchRefused: the server does not take such batches.
        Undecided: the server was away for too long; what was decided so far stays decided.
        UnreadableFile: a file cannot be read on.
    """
    queues: list[asyncio.Queue[Record | None]] = [asyncio.Queue(WINDOW_RECORDS) for _ in range(lanes)]
    async with ClientSession() as session:
        client = BatchClient(session, ingest_url, token)
        tasks = [asyncio.ensure_future(_run_lane(queue, client, summary, on_decided)) for queue in queues]
        reading = asyncio.ensure_future(_read(records, queues, summary, on_decided))
        try:
            await _all_of([reading, *tasks])
        finally:
            for task in (reading, *tasks):
                task.cancel()
            await asyncio.gather(reading, *tasks, return_exceptions=True)


async def _all_of(tasks: list[asyncio.Future[None]]) -> None:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()


async def _read(
    records: Iterable[Record],
    queues: list[asyncio.Queue[Record | None]],
    summary: Summary,
    on_decided: OnDecided,
) -> None:
    for record in records:
        if record.fault is not None:
            summary.add_fault(record)
            on_decided(record)
            continue
        await queues[lane_of(record, len(queues))].put(record)
    for queue in queues:
        await queue.put(None)


def lane_of(record: Record, lanes: int) -> int:
    """The lane of a record: the same one for all records of an order."""
    return zlib.crc32(record.order_key.encode()) % lanes


async def _run_lane(
    queue: asyncio.Queue[Record | None], client: BatchClient, summary: Summary, on_decided: OnDecided
) -> None:
    waiting: deque[Record] = deque()
    ended = False
    while waiting or not ended:
        ended = await _fill(waiting, queue) or ended
        batch = take_batch(waiting)
        if not batch:
            continue
        results = await client.decide([record.body for record in batch])
        for record, result in zip(batch, results, strict=True):
            summary.add_result(record, result)
            on_decided(record)


async def _fill(waiting: deque[Record], queue: asyncio.Queue[Record | None]) -> bool:
    """Takes over what was read, waiting if there is nothing at all. Whether that was the end."""
    while len(waiting) < WINDOW_RECORDS and (not waiting or not queue.empty()):
        record = await queue.get()
        if record is None:
            return True
        waiting.append(record)
    return False


def take_batch(waiting: deque[Record]) -> list[Record]:
    """Takes the first record of each order out of `waiting`, within the bounds of one batch."""
    batch: list[Record] = []
    left: list[Record] = []
    seen: set[str] = set()
    room = BATCH_BYTES
    for record in waiting:
        fits = len(batch) < BATCH_RECORDS and (not batch or len(record.body) < room)
        if record.order_key in seen or not fits:
            left.append(record)
        else:
            batch.append(record)
            room -= len(record.body) + 1
        seen.add(record.order_key)
    waiting.clear()
    waiting.extend(left)
    return batch
