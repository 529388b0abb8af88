"""The floor of a single update: confirmed publish, consume, transaction, reply, received; nothing else.

With the client libraries alone, caller and worker in one process on a connection each.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from secrets import token_hex
from time import perf_counter
from typing import Any

import aio_pika
from aio_pika.abc import AbstractExchange, AbstractIncomingMessage

from benchmarks.floor_documents import write_one, writes_of
from benchmarks.load_process import Result, Run, serve_load
from benchmarks.percentiles import summary_ms
from benchmarks.workload import body_of, lifecycles
from shared.database import Database, open_database
from shared.topology import partition_queue

WARM_UPS = 10
ANSWER_SECONDS = 30


@dataclass(frozen=True)
class Parameters:
    """What the load process is told."""

    amqp_url: str
    mongodb_url: str
    in_flight: int
    seconds: float


@dataclass
class Worker:
    """Takes each message to its reply, as many at once as are delivered."""

    database: Database
    replies: AbstractExchange

    async def handle(self, message: AbstractIncomingMessage) -> None:
        """One transaction, then the reply, then the acknowledgement."""
        lane, number = map(int, str(message.correlation_id).split("-"))
        await write_one(self.database, writes_of(lane, number, 1))
        reply = aio_pika.Message(message.body, correlation_id=message.correlation_id)
        await self.replies.publish(reply, str(message.reply_to))
        await message.ack()


@dataclass
class Caller:
    """Sends, and waits for the broker's confirm and the worker's reply."""

    exchange: AbstractExchange
    queue: str
    reply_to: str
    awaited: dict[str, asyncio.Future[None]] = field(default_factory=dict)

    async def call(self, lane: int, number: int, body: bytes) -> None:
        """One pass."""
        key = f"{lane}-{number}"
        reply = self.awaited[key] = asyncio.get_running_loop().create_future()
        message = aio_pika.Message(
            body,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            correlation_id=key,
            reply_to=self.reply_to,
        )
        async with asyncio.timeout(ANSWER_SECONDS):
            await self.exchange.publish(message, self.queue, mandatory=True)
            await reply

    async def receive(self, message: AbstractIncomingMessage) -> None:
        """Takes a reply in."""
        self.awaited.pop(str(message.correlation_id)).set_result(None)
        await message.ack()


@asynccontextmanager
async def prepare(parameters: dict[str, Any]) -> AsyncIterator[Run]:
    """Sets up a queue and a database like those of the system."""
    wanted = Parameters(**parameters)
    name = f"floor_{token_hex(4)}"
    async with (
        open_database(wanted.mongodb_url, name) as database,
        await aio_pika.connect(wanted.amqp_url) as working,
        await aio_pika.connect(wanted.amqp_url) as calling,
    ):
        await database.prepare(wanted.in_flight)
        await _start_worker(working, name, database, wanted.in_flight)
        caller = await _start_caller(calling, name)

        async def run() -> Result:
            return await _run(caller, wanted)

        yield run


async def _start_worker(
    connection: aio_pika.abc.AbstractConnection, queue_name: str, database: Database, in_flight: int
) -> None:
    channel = await connection.channel(publisher_confirms=False)
    await channel.set_qos(prefetch_count=in_flight)
    queue = await channel.declare_queue(queue_name, durable=True, arguments=partition_queue(0).arguments)
    await queue.consume(Worker(database, channel.default_exchange).handle)


async def _start_caller(connection: aio_pika.abc.AbstractConnection, queue_name: str) -> Caller:
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    replies = await channel.declare_queue(exclusive=True)
    caller = Caller(channel.default_exchange, queue_name, replies.name)
    await replies.consume(caller.receive)
    return caller


async def _run(caller: Caller, wanted: Parameters) -> Result:
    times: list[float] = []
    for number in range(WARM_UPS):
        await caller.call(0, number, b"{}")
    start = perf_counter()
    async with asyncio.TaskGroup() as group:
        for lane in range(wanted.in_flight):
            group.create_task(_loop(caller, lane, start + wanted.seconds, times))
    elapsed = perf_counter() - start
    return {"updates": len(times), "seconds": elapsed, "rate": len(times) / elapsed, **summary_ms(times)}


async def _loop(caller: Caller, lane: int, end: float, times: list[float]) -> None:
    bodies = lifecycles(f"floor-{lane}", "2026-01-31T08:15:00.000Z")
    for number in count(WARM_UPS):
        started = perf_counter()
        if started >= end:
            return
        await caller.call(lane, number, body_of(next(bodies)))
        times.append(perf_counter() - started)


if __name__ == "__main__":
    serve_load(prepare)
