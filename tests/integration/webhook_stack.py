"""Senders of webhooks in this process, on the tests' database, and receivers that behave as told."""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic, time
from typing import Any, TypeVar

import orjson
from aiohttp import web
from query_stack import PARTITIONS, START, World, store

from tracking_query.webhooks.changes import new_webhook
from tracking_query.webhooks.storing import insert_webhook
from tracking_query.webhooks.webhook_bodies import CreateWebhook
from tracking_shared.auth.revocations import RevocationList
from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.webhooks import AttemptDocument, GrantDocument, WebhookDocument
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.policy.receivers import parse_networks
from tracking_shared.serving import background
from tracking_shared.storage.database import Database, open_database
from tracking_webhooks.adapters.http_sender import open_sender
from tracking_webhooks.adapters.log_reader import LogReader
from tracking_webhooks.adapters.webhook_store import Save, WebhookStore
from tracking_webhooks.errors import LeaseLost
from tracking_webhooks.processing.assignment import Assignment
from tracking_webhooks.processing.capacity import Capacity
from tracking_webhooks.processing.endpoint import Parts
from tracking_webhooks.processing.message_cache import MessageCache
from tracking_webhooks.processing.tail import Tail

T = TypeVar("T")

LOOPBACK = "127.0.0.0/8"
EVERYTHING: GrantDocument = {
    "merchants": ["*"],
    "orders": None,
    "sub": "shop",
    "token_id": None,
    "issued_at": None,
}

Behave = Callable[[Mapping[str, Any]], Awaitable[web.Response]]


@dataclass
class Clock:
    """The time of a simulation: it stands still until it is set forward."""

    now: float = field(default_factory=time)

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Received:
    """One request that a receiver took."""

    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def event(self) -> Any:
        """The CloudEvent."""
        return orjson.loads(self.body)


async def accept(event: Mapping[str, Any]) -> web.Response:
    """The answer of a receiver that works."""
    return web.Response(status=204)


class Receiver:
    """A server that writes down what it accepts. `behave` answers, and may raise or wait."""

    def __init__(self, behave: Behave = accept) -> None:
        self.behave = behave
        self.requests: list[Received] = []
        """In the order in which they arrived, refused ones too."""
        self.taken: dict[str, list[int]] = defaultdict(list)
        """By order: the versions that were answered with 2xx."""
        self.concurrent = 0
        self.most_concurrent = 0
        self.orders_in_hand: list[str] = []
        self.overlaps = 0
        """Requests that came while one of the same order was in hand."""
        self.record = True
        """False: it answers, and looks at nothing."""
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/in"

    @property
    def count(self) -> int:
        """Deliveries that were accepted."""
        return sum(map(len, self.taken.values()))

    async def start(self) -> None:
        """Listens, on the same port as before."""
        app = web.Application()
        app.router.add_post("/in", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Listens no more."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if not self.record:
            return web.Response(status=204)
        self.requests.append(Received(dict(request.headers), body, time()))
        event = orjson.loads(body)
        subject = event["subject"]
        self.overlaps += subject in self.orders_in_hand
        self.orders_in_hand.append(subject)
        self.concurrent += 1
        self.most_concurrent = max(self.most_concurrent, self.concurrent)
        try:
            response = await self.behave(event)
        finally:
            self.concurrent -= 1
            self.orders_in_hand.remove(subject)
        if 200 <= response.status < 300 and "version" in event["data"]:
            self.taken[subject].append(event["data"]["version"])
        return response


@asynccontextmanager
async def receiver(behave: Behave = accept, *, of_one_webhook: bool = True) -> AsyncIterator[Receiver]:
    """A receiver that listens. `of_one_webhook`: each order comes from one webhook, one event at a time."""
    made = Receiver(behave)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
    assert made.overlaps == 0 or not of_one_webhook


@dataclass
class Sender:
    """One replica."""

    assignment: Assignment
    tail: Tail
    parts: Parts
    work: asyncio.Task[None]

    def wake(self) -> None:
        self.tail.wake()
        self.assignment.wake_all()


class WebhookWorld:
    """A database with a log, and everything that a test does to it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.world = World()
        self.at = START
        self.senders: list[Sender] = []
        self._stack = AsyncExitStack()
        self._stored = 0

    async def add(self, *names: str, merchant: str = "m-1", **created: Any) -> None:
        """Adds an event to the log for each of these orders, and makes it readable."""
        for order_id in names:
            known = order_id in self.world.orders
            status = "in_transit" if known else "created"
            customer = {"name": "Ada", "contact_ref": f"contact-{order_id}"}
            of_order = {"merchant_id": merchant, "customer": customer} | created
            self.world.apply(order_id, status, self.at, of_order)
        await self.flush()

    async def flush(self) -> None:
        """Stores what the world has and the database has not."""
        events = self.world.events[self._stored :]
        if not events:
            return
        self._stored += len(events)
        await self.database.order_events.insert_many(events)
        for partition, seq in enumerate(self.world.seqs):
            await self.database.partitions.update_one({"_id": partition}, {"$set": {"seq": seq}})
        for sender in self.senders:
            sender.tail.wake()

    async def position(self) -> Position:
        """The beginning of the log."""
        epoch = (await self.database.raw["settings"].find_one({"_id": "partitions"}))["epoch"]  # type: ignore[index]
        return Position(epoch, (0,) * PARTITIONS)

    async def register(
        self, url: str, *, grant: GrantDocument = EVERYTHING, **wanted: Any
    ) -> tuple[str, bytes]:
        """A webhook from the beginning of the log: its id and its key."""
        body = CreateWebhook.model_validate({"url": url, "filter": wanted})
        webhook_id = f"wh_{secrets.token_hex(8)}"
        webhook = new_webhook(webhook_id, body, grant, await self.position(), datetime.now(UTC))
        key = await insert_webhook(self.database, webhook)
        assert key is not None
        return webhook_id, key

    async def stored(self, webhook_id: str) -> WebhookDocument:
        """The webhook as it is stored."""
        found = await self.database.webhooks.find_one({"_id": webhook_id})
        assert found is not None
        return found

    async def deliver_twice(self, webhook_id: str) -> None:
        """Waits until everything is delivered, and again from the beginning, as after a crash."""

        async def is_done() -> bool:
            return (await self.stored(webhook_id))["seqs"] == self.world.seqs

        await until(is_done, seconds=60)
        beginning = [0] * len(self.world.seqs)
        await self.database.webhooks.update_one(
            {"_id": webhook_id}, {"$set": {"seqs": beginning}, "$inc": {"fence": 1}}
        )
        await until(is_done, seconds=60)

    async def start_sender(
        self, clock: Callable[[], float] = time, store: WebhookStore | None = None
    ) -> Sender:
        """A replica that delivers until the end of the test, or `stop_sender`."""
        store = store or WebhookStore(self.database)
        sender = await self._stack.enter_async_context(_running_sender(self.database, clock, store))
        self.senders.append(sender)
        return sender

    async def stop_sender(self, sender: Sender) -> None:
        """Stops a replica as a signal would."""
        self.senders.remove(sender)
        sender.work.cancel()
        with suppress(asyncio.CancelledError):
            await sender.work

    async def close(self) -> None:
        await self._stack.aclose()


@asynccontextmanager
async def _running_sender(
    database: Database, clock: Callable[[], float], store: WebhookStore
) -> AsyncIterator[Sender]:
    async with open_sender(parse_networks(LOOPBACK)) as http:
        reader, revocations = LogReader(database, PARTITIONS), RevocationList(database)
        tail = Tail(reader)
        parts = Parts(
            store=store,
            reader=reader,
            tail=tail,
            sender=http,
            capacity=Capacity(),
            revocations=revocations,
            messages=MessageCache(DEFAULT_WORKFLOW),
            clock=clock,
        )
        assignment = Assignment(store, secrets.token_hex(8), parts)
        tail.on_new = assignment.wake_for

        async def work() -> None:
            async with background(tail.run(), revocations.follow(assignment.wake_all)):
                await assignment.run()

        task = asyncio.create_task(work())
        try:
            yield Sender(assignment, tail, parts, task)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def webhook_world(mongodb_url: str) -> AsyncIterator[WebhookWorld]:
    """An empty log on a database of its own."""
    name = f"test_webhooks_{secrets.token_hex(6)}"
    async with open_database(mongodb_url, name) as database:
        await store(database, World())
        world = WebhookWorld(database)
        try:
            yield world
        finally:
            await world.close()
            await database.client.drop_database(name)


class FreezingStore(WebhookStore):
    """A store whose process freezes for good when it comes to a step, before or after it is done."""

    def __init__(self, database: Database, step: str, *, after: bool) -> None:
        super().__init__(database)
        self.frozen = asyncio.Event()
        self.ended = asyncio.Event()
        """To be set at the end of the test."""
        self._step = step
        self._after = after

    async def beat(self, *arguments: Any) -> None:
        if self.frozen.is_set():
            await self.ended.wait()
        else:
            await super().beat(*arguments)

    async def take(self, *arguments: Any) -> WebhookDocument | None:
        try:
            return await self._at("take", super().take, *arguments)
        except LeaseLost:
            return None

    async def keys(self, *arguments: Any) -> list[tuple[bytes, datetime | None]]:
        return await self._at("keys", super().keys, *arguments)

    async def add_attempts(self, attempts: Sequence[AttemptDocument]) -> None:
        # Only where something was delivered.
        with suppress(LeaseLost):
            await self._at("add_attempts" if attempts else "", super().add_attempts, attempts)

    async def save(self, saves: Sequence[Save]) -> set[str]:
        try:
            return await self._at("save", super().save, saves)
        except LeaseLost:
            return {one.webhook_id for one in saves}

    async def _at(self, step: str, work: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        if step == self._step and not self._after:
            await self._freeze()
        done = await work(*arguments)
        if step == self._step:
            await self._freeze()
        return done

    async def _freeze(self) -> None:
        self.frozen.set()
        await self.ended.wait()
        raise LeaseLost("ended")


async def until(condition: Callable[[], bool | Awaitable[bool]], *, seconds: float = 30.0) -> None:
    """Waits until the condition holds."""
    deadline = monotonic() + seconds
    while True:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        assert monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.01)


def versions_through(last: int) -> list[int]:
    """1, 2, 3 … up to this one."""
    return list(range(1, last + 1))
