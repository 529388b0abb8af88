"""What the notifier's tests share: an order-state of theirs that commits and announces, and raw clients."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import jwt
import orjson
from aiohttp import ClientSession
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from message_checks import check_event, check_message, check_server_message
from tracking.devstack.service_process import ServiceProcess
from tracking_client.live_orders import LiveOrders
from tracking_shared.contracts.documents import EventDocument, position_key, project
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.contracts.messages import cloud_event
from tracking_shared.contracts.timestamps import now
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.messaging.connection import connect as connect_broker
from tracking_shared.messaging.publisher import Publisher
from tracking_shared.messaging.topology import EVENTS_EXCHANGE
from tracking_shared.storage.database import Database, open_database

PARTITIONS = 4
START_SECONDS = 30

Document = dict[str, Any]
StartService = Callable[..., Awaitable[ServiceProcess]]


class OrderStateStub:
    """Commits events as order-state does (one transaction a partition, dense seqs), and announces them."""

    def __init__(self, database: Database, publisher: Publisher) -> None:
        self.database = database
        self._publisher = publisher
        self._newest: dict[str, EventDocument] = {}
        self.metadata: Document = {}

    async def commit(self, *changes: tuple[str, str, str], announce: bool = True) -> list[EventDocument]:
        """Each change is (order id, merchant id, status). An unannounced one is what a lost message makes."""
        by_partition: dict[int, list[EventDocument]] = {}
        for order_id, merchant_id, status in changes:
            event = self._next_event(order_id, merchant_id, status)
            by_partition.setdefault(event["partition"], []).append(event)
        for partition, events in by_partition.items():
            await self._write(partition, events)
            if announce:
                await self.announce(events)
        return [event for events in by_partition.values() for event in events]

    async def announce(self, events: list[EventDocument]) -> None:
        """Publishes events of one partition."""
        body = orjson.dumps([cloud_event(event, DEFAULT_WORKFLOW) for event in events])
        await self.publish(body)

    async def publish(self, body: bytes) -> None:
        """Publishes any body to the exchange of the events."""
        await self._publisher.publish("", body, content_type="application/cloudevents-batch+json")

    def _next_event(self, order_id: str, merchant_id: str, status: str) -> EventDocument:
        before = self._newest.get(order_id)
        time_now = now()
        event = EventDocument(
            _id=0,
            order_id=order_id,
            merchant_id=merchant_id,
            customer={"name": f"Name of {order_id}", "contact_ref": "+31 6 1234"},
            version=before["version"] + 1 if before else 1,
            partition=partition_of(order_id, PARTITIONS),
            seq=0,
            status=status,
            previous_status=before["status"] if before else None,
            active=DEFAULT_WORKFLOW.is_active(status),
            update_id=secrets.token_hex(8),
            source={"type": "system", "id": "test"},
            occurred_at=None,
            received_at=time_now,
            recorded_at=time_now,
            created_at=before["created_at"] if before else time_now,
            metadata=self.metadata,
            order_metadata=self.metadata,
        )
        self._newest[order_id] = event
        return event

    async def _write(self, partition: int, events: list[EventDocument]) -> None:
        database = self.database
        async with database.client.start_session() as session, await session.start_transaction():
            head = await database.partitions.find_one({"_id": partition}, session=session)
            assert head is not None
            for number, event in enumerate(events, head["seq"] + 1):
                event["seq"], event["_id"] = number, position_key(partition, number)
            await database.partitions.replace_one(
                {"_id": partition}, head | {"seq": head["seq"] + len(events)}, session=session
            )
            await database.order_events.insert_many(events, session=session)
            for event in events:
                order = project(event)
                await database.orders.replace_one({"_id": order["_id"]}, order, upsert=True, session=session)


@asynccontextmanager
async def order_state_stub(environment: dict[str, str]) -> AsyncIterator[OrderStateStub]:
    """A stub on a prepared database and broker."""
    async with (
        open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database,
        connect_broker(environment["AMQP_URL"], "test") as connection,
    ):
        await database.prepare(PARTITIONS)
        await connection.declare(PARTITIONS)
        yield OrderStateStub(database, await connection.publisher(EVENTS_EXCHANGE, mandatory=False))


@dataclass
class Stage:
    """A notifier as a process, and what plays the services around it."""

    notifier: ServiceProcess
    stub: OrderStateStub
    secret: str

    @property
    def url(self) -> str:
        return self.notifier.stream_url

    def token(self, *, ttl: float = 600, **claims: Any) -> str:
        """A token; by default it may read everything."""
        standard = {"sub": "tester", "scope": "orders:read", "merchants": ["*"], "exp": time.time() + ttl}
        return jwt.encode(standard | claims, self.secret, "HS256")

    async def metric(self, name: str) -> float:
        """A metric without labels."""
        return await metric(self.notifier, name)


async def metric(service: ServiceProcess, name: str) -> float:
    """A metric of a service, its labels taken together."""
    async with ClientSession() as session, session.get(f"{service.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@asynccontextmanager
async def notifier_stage(
    start_service: StartService, environment: dict[str, str], **settings: str
) -> AsyncIterator[Stage]:
    """A prepared database and broker with a notifier on them."""
    async with order_state_stub(environment) as stub:
        notifier = await start_service("notifier", PARTITIONS=str(PARTITIONS), **settings)
        yield Stage(notifier, stub, environment["JWT_SECRET"])


class RawClient:
    """A client of the bare protocol. Every message that it gets must be as the AsyncAPI document says."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, **message: Any) -> None:
        await self.socket.send(orjson.dumps(message), text=True)

    async def receive(self, seconds: float = 30) -> Document:
        """The next message."""
        async with asyncio.timeout(seconds):
            return checked(await self.socket.recv())

    async def until(self, kind: str) -> list[Document]:
        """All messages up to and with the first of this type."""
        messages = [await self.receive()]
        while messages[-1]["type"] != kind:
            messages.append(await self.receive())
        return messages

    async def events(self, count: int) -> list[Document]:
        """The next events, `count` of them."""
        found: list[Document] = []
        while len(found) < count:
            message = await self.receive()
            assert message["type"] == "events", message
            found += message["events"]
        assert len(found) == count, [event["id"] for event in found]
        return found

    async def closed(self, seconds: float = 30) -> tuple[int, str, list[Document]]:
        """The close code, its reason, and the messages before it."""
        messages: list[Document] = []
        async with asyncio.timeout(seconds):
            with suppress(ConnectionClosed):
                while True:
                    messages.append(checked(await self.socket.recv()))
        return self.socket.close_code or 0, self.socket.close_reason or "", messages


def checked(text: str | bytes) -> Document:
    """The message, which must be as the AsyncAPI document says."""
    message: Document = orjson.loads(text)
    check_server_message(message)
    return message


@asynccontextmanager
async def raw_client(url: str, **options: Any) -> AsyncIterator[RawClient]:
    """An open connection on which nothing was sent yet."""
    async with connect(url, compression=None, max_size=None, **options) as socket:
        yield RawClient(socket)


@asynccontextmanager
async def subscribed(url: str, bearer: str, **request: Any) -> AsyncIterator[RawClient]:
    """A client that is live, all earlier messages read and dropped."""
    async with raw_client(url) as client:
        message = {"type": "subscribe", "token": bearer} | request
        await client.send(**message)
        await client.until("live")
        check_message("subscribe", message)
        yield client


class Watcher:
    """A `LiveOrders` in the background that remembers what it was handed."""

    def __init__(self, url: str, token: Callable[[], str], wanted: Document | None = None) -> None:
        self.live = LiveOrders(url, token, wanted)
        self.events: list[Document] = []

    async def run(self) -> None:
        async with aclosing(self.live.events()) as events:
            async for event in events:
                check_event(event)
                self.events.append(event)

    def saw(self, event: EventDocument) -> bool:
        return any(seen["id"] == f"{event['order_id']}:{event['version']}" for seen in self.events)


@asynccontextmanager
async def watching(*watchers: Watcher) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(watcher.run()) for watcher in watchers]
    try:
        for watcher in watchers:
            async with asyncio.timeout(START_SECONDS):
                await watcher.live.live.wait()
        yield
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def ids(events: list[Document]) -> list[str]:
    """The ids of events: `<order id>:<version>`."""
    return [event["id"] for event in events]


async def settled(stage: Stage) -> Stage:
    """Returns a stage that tests share once it has finished with the test before: its notifier, which was
    there from the first event on, has taken all events and has no clients.
    """

    async def is_settled() -> bool:
        written = await stage.stub.database.order_events.count_documents({})
        taken = await stage.metric("tracking_feed_events_total")
        return taken == written and await stage.metric("tracking_stream_connections") == 0

    await eventually(is_settled)
    return stage


def new_order() -> str:
    """An order id of its own."""
    return f"o-{secrets.token_hex(6)}"


def new_merchant() -> str:
    """A merchant id of its own: a snapshot for it alone holds nothing of other tests."""
    return f"m-{secrets.token_hex(6)}"


async def eventually(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 60) -> None:
    """Returns when the condition holds."""
    async with asyncio.timeout(seconds):
        while True:
            held = condition()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.02)
