"""A simulation of a change of the number of partitions: replicas of order-state that are killed, nodes of a
broker that hear of it late or take their time for a message, workers that stall, and ingests that learn of it
late. Only the parts around the change are simulated; the change itself and the way of a command to its
partition are those of the services.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson
from memory_collections import MemoryDatabase

from builders import create_command, update_command
from tracking_ingest.submission.dispatcher import Dispatcher
from tracking_order_state.adapters.repartition_store import SETTINGS_ID, RepartitionStore
from tracking_order_state.errors import LayoutChanged
from tracking_order_state.processing.repartition import Repartition
from tracking_shared.contracts.commands import AnyCommand, CreateOrder, ReleaseOrder, decode_commands
from tracking_shared.contracts.layout import (
    QUICK_CONFIRM_SECONDS,
    SETTLE_SECONDS,
    Layout,
    Routing,
    layout_of,
    routing_of,
)
from tracking_shared.messaging.errors import BrokerUnavailable, PublishRefused
from tracking_shared.messaging.topology import partition_queue_name, routing_key

FOR_EVER = float("inf")

GIVE_UP_SECONDS = 300.0


@dataclass(slots=True)
class Message:
    """A message in a queue."""

    body: bytes
    message_id: str | None = None
    reply_to: "Replies | None" = None


@dataclass(frozen=True, slots=True)
class ReplyDelivery:
    """A reply to a request."""

    body: bytes
    headers: Mapping[str, Any] = field(default_factory=dict)

    async def acknowledge_through(self) -> None:
        """It is."""


class Replies:
    """A queue of replies, and its consumer."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[ReplyDelivery] = asyncio.Queue()

    def put(self, message_id: str) -> None:
        reply = {"message_id": message_id, "outcomes": []}
        self._queue.put_nowait(ReplyDelivery(orjson.dumps([reply])))

    async def next_batch(self, limit: int) -> list[Any]:
        return [await self._queue.get()]

    async def close(self) -> None:
        """It is."""


class World:
    """Everything around the change."""

    def __init__(self, random: Random, *, settle_seconds: float = SETTLE_SECONDS) -> None:
        self.random = random
        self.settle_seconds = settle_seconds
        self.database = MemoryDatabase(self.pause)
        self.settings = self.database.raw["settings"].documents
        self.settings[SETTINGS_ID] = {"_id": SETTINGS_ID, "count": 2}
        for number in range(2):
            partition = {"_id": number, "epoch": "e", "commits": 0, "seq": 0, "horizon": 0}
            self.database.partitions.documents[number] = partition
        self.bound_until = {routing_key(number): FOR_EVER for number in range(2)}
        self.queues = {partition_queue_name(number): asyncio.Queue[Message]() for number in range(6)}
        self.homes: dict[str, int] = {}
        self.decided: dict[str, list[str]] = {}
        self.refused: list[str] = []

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def layout(self) -> Layout:
        return layout_of(self.settings[SETTINGS_ID])

    async def pause(self) -> None:
        """A round trip; some take long."""
        await asyncio.sleep(0.2 if self.random.random() < 0.05 else 0.002)

    async def ask_for(self, count: int) -> None:
        """As the operator's command does."""
        self.settings[SETTINGS_ID]["switch"] = {"count": count, "phase": "open", "attempt": 0}
        while "switch" in self.settings[SETTINGS_ID]:
            assert self.now < GIVE_UP_SECONDS, self.settings
            await asyncio.sleep(0.05)

    async def run_replica(self) -> None:
        """A replica of order-state that is killed now and then, and started again."""
        while True:
            life = asyncio.create_task(self._work())
            await asyncio.wait([life], timeout=self.random.choice((0.05, 0.5, 1.5, 30.0)))
            life.cancel()
            await asyncio.wait([life])
            if not life.cancelled() and not isinstance(life.exception(), LayoutChanged):
                life.result()

    async def _work(self) -> None:
        store = RepartitionStore(self.database)  # type: ignore[arg-type]
        routing, _ = await store.read()
        connection: Any = WorkerConnection(self)
        repartition = Repartition(store, connection, routing, settle_seconds=self.settle_seconds)
        await repartition.finish()
        await repartition.run()

    async def run_worker(self, partition: int) -> None:
        """The owner of a partition."""
        queue = self.queues[partition_queue_name(partition)]
        while True:
            message = await queue.get()
            await asyncio.sleep(1.0 if self.random.random() < 0.02 else 0.002)
            document = self.database.partitions.documents
            while document.get(partition, {}).get("generation", 0) > self.layout.generation:  # noqa: ASYNC110 - it connects anew, again and again
                await asyncio.sleep(0.05)
            await self._decide(partition, message)

    async def _decide(self, partition: int, message: Message) -> None:
        for command in decode_commands(message.body):
            if isinstance(command, ReleaseOrder):
                continue
            home = self.homes.get(command.order_id, self.layout.new_home(command.order_id))
            if home == partition:
                self._apply(home, command)
            else:
                await asyncio.sleep(self.random.choice((0.002, 0.5)))
                self.queues[partition_queue_name(home)].put_nowait(Message(message.body))
                return
        if message.reply_to is not None and message.message_id is not None:
            message.reply_to.put(message.message_id)

    def _apply(self, home: int, command: AnyCommand) -> None:
        if isinstance(command, CreateOrder):
            self.homes.setdefault(command.order_id, home)
        if command.order_id not in self.homes:
            self.refused.append(command.update_id)
        elif command.update_id not in (decided := self.decided.setdefault(command.order_id, [])):
            decided.append(command.update_id)


class WorkerConnection:
    """The connection of a replica of order-state."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def declare(self, partitions: int, route: int) -> None:
        await self.world.pause()
        for partition in range(partitions):
            self.world.bound_until[routing_key(partition, route)] = FOR_EVER
        await self.world.pause()

    async def unbind(self, partitions: int, route: int) -> None:
        await self.world.pause()
        known_until = self.world.now + self.world.random.choice((0.0, QUICK_CONFIRM_SECONDS * 0.99))
        for partition in range(partitions):
            key = routing_key(partition, route)
            self.world.bound_until[key] = min(self.world.bound_until.get(key, 0.0), known_until)
        # It is answered when the node that was asked has done it.

    async def publisher(self, exchange: str) -> "WorkerConnection":
        return self

    async def publish(
        self, queue: str, body: bytes, *, message_id: str, reply_to: Replies, **_: object
    ) -> None:
        self.world.queues[queue].put_nowait(Message(body, message_id, reply_to))

    async def private_consumer(self, exchange: None, limit: int) -> tuple[Replies, Replies]:
        replies = Replies()
        return replies, replies


@dataclass(slots=True)
class IngestConnection:
    """The connection of an ingest to a node of the broker that takes its time for some messages."""

    world: World
    is_blocked: bool = False
    in_service: bool = False

    async def publisher(self, exchange: str) -> "IngestConnection":
        return self

    async def private_consumer(self, exchange: None, limit: int) -> tuple[str, "IngestConnection"]:
        return "replies", self

    async def with_declared(self, partitions: int, use: object, *, route: int) -> None:
        """All is declared."""

    async def check(self, exchange: str) -> None:
        """It answers."""

    async def next_batch(self, limit: int) -> Any:
        await asyncio.Event().wait()

    async def publish(self, key: str, body: bytes, **_: object) -> None:
        await asyncio.sleep(0.001)
        if self.world.bound_until.get(key, 0.0) <= self.world.now:
            raise PublishRefused(key)
        # From here on it comes to its queue, even if the connection is lost.
        seconds = self.world.random.choice((0.001, 0.001, 0.48, 0.9, 2.0, 4.0))
        await asyncio.shield(asyncio.create_task(self._arrive(key, body, seconds)))

    async def _arrive(self, key: str, body: bytes, seconds: float) -> None:
        await asyncio.sleep(seconds)
        queue = partition_queue_name(int(key.rsplit("p", 1)[1]))
        self.world.queues[queue].put_nowait(Message(body))


@dataclass(frozen=True, slots=True)
class MemoryRouting:
    """The stored routing, and the homes of orders."""

    world: World

    async def is_current(self, routing: Routing) -> bool:
        await self.world.pause()
        return routing_of(self.world.settings[SETTINGS_ID]) == routing

    async def homes(self, layout: Layout, order_ids: Sequence[str]) -> Mapping[str, int]:
        await self.world.pause()
        return {one: self.world.homes[one] for one in order_ids if one in self.world.homes}


class Ingest:
    """An ingest that learns of changes after a while."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.dispatcher = Dispatcher(2, stored=MemoryRouting(world))

    async def run(self) -> None:
        connection: Any = IngestConnection(self._world)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.dispatcher.serve(connection))
            while True:
                self.dispatcher.reroute(routing_of(self._world.settings[SETTINGS_ID]))
                await asyncio.sleep(self._world.random.choice((0.25, 0.25, 0.25, 2.0)))


@dataclass(slots=True)
class Client:
    """Reports on orders of its own, each report when the one before was accepted, and repeats what is not."""

    world: World
    ingests: Sequence[Ingest]
    name: str
    accepted: dict[str, list[str]] = field(default_factory=dict)

    async def run(self, orders: int) -> None:
        for number in range(orders):
            order_id = f"{self.name}-{number}"
            self.accepted[order_id] = []
            for step, make in enumerate((create_command, update_command, update_command)):
                command = make(order_id, update_id=f"{order_id}.{step}")
                while not await self._is_accepted(command):
                    assert self.world.now < GIVE_UP_SECONDS, command.update_id
                    await asyncio.sleep(0.1)
                self.accepted[order_id].append(command.update_id)

    async def _is_accepted(self, command: AnyCommand) -> bool:
        dispatcher = self.world.random.choice(self.ingests).dispatcher
        try:
            destinations = await dispatcher.locate([command.order_id])
            submission = dispatcher.submit(command, wants_outcome=False, destinations=destinations)
        except BrokerUnavailable:
            return False
        return await submission.confirmed is None


@asynccontextmanager
async def running(*parts: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs these parts; the end of one with an error ends all."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part) for part in parts]
        yield
        for task in tasks:
            task.cancel()
