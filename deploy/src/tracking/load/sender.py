"""Sends operations in several lanes, those of one order always in the same lane."""

import asyncio
from collections.abc import Callable, Iterable, Iterator

from aiohttp import ClientSession

from tracking.load.order_records import OrderQueue
from tracking.load.records import Record
from tracking.load.summary import Summary
from tracking.tasks import all_of
from tracking_client.batch_client import BatchClient
from tracking_shared.contracts.workflow import Workflow

WINDOW_RECORDS = 2000
"""Records that each lane reads ahead, so that a batch has enough different orders. About 1 KB each."""

BATCH_RECORDS = 500
BATCH_BYTES = 900_000
"""Below the limits of ingest: 1,000 operations and 1 MiB."""

OnDecided = Callable[[], None]
"""Called when the summary has changed."""


class Window:
    """Bounds the records in memory. An order with more records than that gets the whole window."""

    def __init__(self, records: int) -> None:
        self._size = records
        self._free = records
        self._change = asyncio.Condition()

    async def enter(self, records: int) -> None:
        """Waits until there is room."""
        wanted = min(records, self._size)
        async with self._change:
            await self._change.wait_for(lambda: self._free >= wanted)
            self._free -= wanted

    async def leave(self, records: int) -> None:
        """Makes room."""
        async with self._change:
            self._free += min(records, self._size)
            self._change.notify_all()


async def send(
    orders: Iterable[list[Record]],
    *,
    ingest_url: str,
    token: str,
    lanes: int,
    workflow: Workflow,
    summary: Summary,
    on_decided: OnDecided,
) -> None:
    """Sends all records, order by order, and counts their results in `summary`.

    Raises:
        BatchRefused: the server refuses the batches.
        Undecided: the server was unavailable for too long; earlier decisions remain.
        UnreadableFile: the next records cannot be read.
    """
    window = Window(WINDOW_RECORDS * lanes)
    queue: asyncio.Queue[OrderQueue | None] = asyncio.Queue()
    async with ClientSession() as session:
        client = BatchClient(session, ingest_url, token)
        running = [Lane(queue, window, client, summary, on_decided) for _ in range(lanes)]
        feed = _feed(orders, queue, window, workflow, lanes)
        await all_of(*(lane.run() for lane in running), feed)


async def _feed(
    orders: Iterable[list[Record]],
    queue: asyncio.Queue[OrderQueue | None],
    window: Window,
    workflow: Workflow,
    lanes: int,
) -> None:
    for records in orders:
        await window.enter(len(records))
        queue.put_nowait(OrderQueue(records, workflow))
    for _ in range(lanes):
        queue.put_nowait(None)


class Lane:
    """Sends one batch after another, with at most one record of each order in it."""

    def __init__(
        self,
        queue: asyncio.Queue[OrderQueue | None],
        window: Window,
        client: BatchClient,
        summary: Summary,
        on_decided: OnDecided,
    ) -> None:
        self._queue = queue
        self._window = window
        self._client = client
        self._summary = summary
        self._on_decided = on_decided
        self._waiting: list[OrderQueue] = []
        self._has_ended = False

    async def run(self) -> None:
        """Sends until the queue has ended and all records are decided."""
        while True:
            await self._fill()
            batch = await self._take_batch()
            if batch:
                results = await self._client.decide([record.body for _, record in batch])
                for (order, _), result in zip(batch, results, strict=True):
                    order.take(result, self._summary)
                self._on_decided()
            elif self._has_ended and not self._waiting:
                return

    async def _fill(self) -> None:
        """Takes enough orders for a batch from the queue. Waits only if it has none."""
        while len(self._waiting) < BATCH_RECORDS and not self._has_ended:
            if self._waiting and self._queue.empty():
                return
            order = await self._queue.get()
            if order is None:
                self._has_ended = True
            else:
                self._waiting.append(order)

    async def _take_batch(self) -> list[tuple[OrderQueue, Record]]:
        """The next record of each order, within the limits of a batch. Removes finished orders."""
        finished: list[OrderQueue] = []
        batch = list(self._next_records(finished))
        if finished:
            removed = set(finished)
            self._waiting = [order for order in self._waiting if order not in removed]
            await self._window.leave(sum(order.size for order in finished))
        return batch

    def _next_records(self, finished: list[OrderQueue]) -> Iterator[tuple[OrderQueue, Record]]:
        room, number = BATCH_BYTES, 0
        for order in self._waiting:
            record = order.next(self._summary)
            if record is None:
                finished.append(order)
                continue
            if number == BATCH_RECORDS or (number and len(record.body) >= room):
                return
            number += 1
            room -= len(record.body) + 1
            yield order, record
