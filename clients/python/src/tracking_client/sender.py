"""Sends operations to ingest, each exactly once in its effect, and returns what became of them.

async with Sender("http://localhost:8001", token) as sender:
    await sender.send(create("acme-1001", merchant_id="acme", name="Ada Example", contact_ref="crm:17"))
    result = await sender.send(update("acme-1001", "picked_up"))
"""

import asyncio
from asyncio import Future
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Self

from aiohttp import ClientSession

from tracking_client.addresses import is_local
from tracking_client.batch_client import (
    GIVE_UP_SECONDS,
    BatchClient,
    Line,
    is_decided,
    reason_of,
    wait_seconds,
)
from tracking_client.errors import BatchRefused, SenderClosed, Undecided
from tracking_client.json_text import encode
from tracking_client.operations import Operation
from tracking_client.order_queues import OrderQueues
from tracking_client.results import Result, result_of
from tracking_client.tokens import Token

MAX_PENDING = 2000
"""Operations that are submitted and not decided: four full batches. One has 64 KiB at most."""

CONNECTIONS = 4
"""Requests at a time."""

BATCH_OPERATIONS = 500
BATCH_BYTES = 900_000
"""Below the limits of ingest: 1,000 operations and 1 MiB."""


@dataclass(eq=False, slots=True)
class _Entry:
    """An operation that is not decided yet."""

    operation: Operation
    order_key: str
    body: bytes
    result: "Future[Result]"
    accepted_order_id: str | None = None
    """Set once the server has accepted it: from then on it is not sent again, only asked for."""
    is_finished: bool = False
    """True once it is decided or given up. A caller may cancel `result` earlier."""

    @property
    def size(self) -> int:
        return len(self.body) + 1


class Sender:
    """Sends operations to one ingest in batches.

    An operation is sent at once if a connection is free. What is submitted meanwhile goes into the next
    batch. Operations on one order take effect in the order in which they were submitted: each is sent when
    the one before it is decided, or given up.

    After a lost answer, a 429 or a 503, the operation is sent again with the same update id, so that it takes
    effect once. An operation that the server has only accepted (202) is not sent again: its outcome is read
    until it is known. `token` is a token, or a function (or coroutine function) that returns one; it is
    called again before a token expires, and when one is refused.
    """

    def __init__(
        self,
        ingest_url: str,
        token: Token,
        *,
        max_pending: int = MAX_PENDING,
        connections: int = CONNECTIONS,
        give_up_seconds: float = GIVE_UP_SECONDS,
    ) -> None:
        self._ingest_url = ingest_url
        self._token = token
        self._give_up_seconds = give_up_seconds
        self._room = asyncio.Semaphore(max_pending)
        self._slots = asyncio.Semaphore(connections)
        self._queues: OrderQueues[_Entry] = OrderQueues()
        self._work = asyncio.Event()  # set while an entry may be taken
        self._unfinished = 0
        self._idle = asyncio.Event()  # set while nothing is unfinished
        self._idle.set()
        self._deliveries: set[asyncio.Task[None]] = set()
        self._resources = AsyncExitStack()
        self._dispatcher: asyncio.Task[None] | None = None
        self._client: BatchClient | None = None

    async def __aenter__(self) -> Self:
        session = await self._resources.enter_async_context(
            ClientSession(trust_env=not is_local(self._ingest_url))
        )
        self._client = BatchClient(session, self._ingest_url, self._token)
        self._dispatcher = asyncio.create_task(self._dispatch())
        return self

    async def __aexit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        """Waits until everything is decided. After an error in the block it does not wait: undecided
        operations raise `SenderClosed`, and may or may not take effect."""
        try:
            if error_type is None:
                await self.flush()
        finally:
            await self._close()

    async def send(self, operation: Operation) -> Result:
        """Sends an operation and waits for its result.

        Raises:
            BatchRefused: the server refuses the request, for example its token.
            Undecided: there was no result for `give_up_seconds`. It is safe to send the operation again.
            SenderClosed: the sender is not open.
        """
        return await (await self.submit(operation))

    async def submit(self, operation: Operation) -> "Future[Result]":
        """Takes an operation, and returns the future of its result. Waits while `max_pending` are undecided.

        The future raises as `send` does. If it is cancelled, the operation may or may not take effect; the
        later ones of its order wait for it all the same.
        """
        body = encode(dict(operation.document))
        await self._room.acquire()
        if self._client is None:
            self._room.release()
            raise SenderClosed("the sender is not open")
        entry = _Entry(operation, operation.order_key, body, asyncio.get_running_loop().create_future())
        self._unfinished += 1
        self._idle.clear()
        self._queues.add(entry)
        self._work.set()
        return entry.result

    async def flush(self) -> None:
        """Waits until everything that was submitted is decided, or given up."""
        await self._idle.wait()

    async def outcome(self, order_id: str, update_id: str) -> Result | None:
        """Reads the outcome of an update, for example of a held one. None: it is not decided, or not known.

        Raises:
            BatchRefused: the token does not allow it.
            Undecided: the server is unavailable.
            SenderClosed: the sender is not open.
        """
        line = await self._opened().outcome(order_id, update_id)
        return result_of(line) if line else None

    def _opened(self) -> BatchClient:
        if self._client is None:
            raise SenderClosed("the sender is not open")
        return self._client

    async def _dispatch(self) -> None:
        while True:
            await self._work.wait()
            await self._slots.acquire()  # what is submitted until one is free goes into the same batch
            entries = self._take_batch()
            if not entries:
                self._slots.release()
                continue
            delivery = asyncio.create_task(self._deliver(entries))
            self._deliveries.add(delivery)
            delivery.add_done_callback(partial(self._delivered, entries))

    def _take_batch(self) -> list[_Entry]:
        taken = self._queues.take(BATCH_OPERATIONS, BATCH_BYTES)
        if not self._queues.has_ready:
            self._work.clear()
        for entry in taken:
            if entry.result.cancelled():
                self._finish(entry)
        return [entry for entry in taken if not entry.is_finished]

    def _delivered(self, entries: Iterable[_Entry], delivery: "asyncio.Task[None]") -> None:
        self._deliveries.discard(delivery)
        error = SenderClosed("the sender was closed") if delivery.cancelled() else delivery.exception()
        if error:
            self._fail(entries, error)

    async def _deliver(self, entries: list[_Entry]) -> None:
        """Repeats until all entries are decided. Begins with a slot in hand."""
        clock = asyncio.get_running_loop().time
        failures, deadline = 0, clock() + self._give_up_seconds
        while True:
            reason, requested_seconds = "the outcome is not known yet", 0.0
            try:
                reason = await self._attempt(entries)
            except Undecided as error:
                reason, requested_seconds = str(error), error.retry_after_seconds
            except BatchRefused as error:
                self._fail(entries, error)
            finally:
                self._slots.release()
            entries = [entry for entry in entries if not entry.is_finished]
            if not entries:
                return
            failures += 1
            wait = wait_seconds(failures, requested_seconds)
            if clock() + wait >= deadline:
                self._fail(entries, Undecided(reason))
                return
            await asyncio.sleep(wait)
            await self._slots.acquire()

    async def _attempt(self, entries: list[_Entry]) -> str:
        """Sends what is not accepted yet, and asks for the outcome of the rest. Returns why some of it is
        still undecided.
        """
        unsent = [entry for entry in entries if entry.accepted_order_id is None]
        accepted = [entry for entry in entries if entry.accepted_order_id is not None]
        reason = ""
        if unsent:
            lines = await self._opened().post([entry.body for entry in unsent])
            for entry, line in zip(unsent, lines, strict=True):
                reason = self._take(entry, line) or reason
        for entry in accepted:
            outcome = await self._opened().outcome(str(entry.accepted_order_id), entry.operation.update_id)
            if outcome:
                self._settle(entry, outcome)
        return reason or "the outcome is not known yet"

    def _take(self, entry: _Entry, line: Line) -> str:
        if is_decided(line):
            self._settle(entry, line)
            return ""
        if line["outcome"] == "accepted":
            entry.accepted_order_id = line["order_id"]
        return reason_of(line)

    def _settle(self, entry: _Entry, line: Line) -> None:
        result = result_of(line)
        if not entry.result.done():
            entry.result.set_result(result)
        self._finish(entry)

    def _fail(self, entries: Iterable[_Entry], error: BaseException) -> None:
        for entry in entries:
            if entry.is_finished:
                continue
            if not entry.result.done():
                entry.result.set_exception(error)
            self._finish(entry)

    def _finish(self, entry: _Entry) -> None:
        entry.is_finished = True
        self._queues.done(entry.order_key)
        if self._queues.has_ready:
            self._work.set()
        self._release()

    def _release(self) -> None:
        self._room.release()
        self._unfinished -= 1
        if not self._unfinished:
            self._idle.set()

    async def _close(self) -> None:
        self._client = None
        tasks = [task for task in (self._dispatcher, *self._deliveries) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for entry in self._queues.clear():
            if not entry.result.done():
                entry.result.set_exception(SenderClosed("the sender was closed"))
            self._release()
        await self._resources.aclose()
