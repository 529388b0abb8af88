"""The lower bounds of updates: one durable round trip, and transactions alone, with bare libraries.

The documents are those that the system would write for the same updates.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from itertools import count
from secrets import token_hex

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from pymongo import ReplaceOne
from pymongo.read_concern import ReadConcern

from benchmarks.documents import event_document
from benchmarks.load import Result, Run, Site, closed_loops
from benchmarks.workload import STATUSES, Step, lifecycles
from tracking_shared.contracts.documents import EventDocument, OrderDocument, project
from tracking_shared.contracts.timestamps import now
from tracking_shared.messaging.topology import partition_queue
from tracking_shared.storage.database import DURABLE, Database, open_database

WARM_UPS = 10
ANSWER_SECONDS = 30


async def transactions(site: Site, at_once: int, updates_each: int, seconds: float) -> AsyncIterator[Run]:
    """Transactions of orders, events and outcomes, and nothing else around them."""
    async with open_database(site.mongodb_url, f"floor_{token_hex(4)}") as database:
        await database.prepare(at_once)

        async def write(lane: int, numbers: Iterator[int]) -> None:
            await _write(database, lane, next(numbers), updates_each)

        async def run() -> Result:
            calls = [partial(write, lane, count()) for lane in range(at_once)]
            return (await closed_loops(calls, seconds, updates_each))[0]

        yield run


async def round_trips(site: Site, in_flight: int, seconds: float) -> AsyncIterator[Run]:
    """Confirmed publish, consume, transaction, reply, received; nothing else.

    Caller and worker are in one process, on a connection each.
    """
    name = f"floor_{token_hex(4)}"
    async with (
        open_database(site.mongodb_url, name) as database,
        await aio_pika.connect(site.amqp_url) as working,
        await aio_pika.connect(site.amqp_url) as calling,
    ):
        await database.prepare(in_flight)
        worker = await working.channel(publisher_confirms=False)
        await worker.set_qos(prefetch_count=in_flight)
        requests = await worker.declare_queue(name, durable=True, arguments=partition_queue(0).arguments)
        caller = await calling.channel(publisher_confirms=True, on_return_raises=True)
        replies = await caller.declare_queue(exclusive=True)
        awaited: dict[str, asyncio.Future[None]] = {}

        async def work(message: AbstractIncomingMessage) -> None:
            lane, number = map(int, str(message.correlation_id).split("-"))
            await _write(database, lane, number, 1)
            reply = aio_pika.Message(message.body, correlation_id=message.correlation_id)
            await worker.default_exchange.publish(reply, str(message.reply_to))
            await message.ack()

        async def receive(message: AbstractIncomingMessage) -> None:
            awaited.pop(str(message.correlation_id)).set_result(None)
            await message.ack()

        async def call(lane: int, numbers: Iterator[int], steps: Iterator[Step]) -> None:
            key = f"{lane}-{next(numbers)}"
            reply = awaited[key] = asyncio.get_running_loop().create_future()
            durable = aio_pika.DeliveryMode.PERSISTENT
            message = aio_pika.Message(
                next(steps).body(), delivery_mode=durable, correlation_id=key, reply_to=replies.name
            )
            async with asyncio.timeout(ANSWER_SECONDS):
                await caller.default_exchange.publish(message, name, mandatory=True)
                await reply

        await requests.consume(work)
        await replies.consume(receive)

        async def run() -> Result:
            calls = [partial(call, lane, count(), lifecycles()) for lane in range(in_flight)]
            for _ in range(WARM_UPS):
                await calls[0]()
            return (await closed_loops(calls, seconds))[0]

        yield run


async def _write(database: Database, lane: int, number: int, size: int) -> None:
    """The `number`-th transaction of a lane: `size` orders, each one step on; its first write is the fence.

    As with the system, one transaction in five makes its orders and the others replace them. No two lanes
    share a document. A single event is written with the calls of the driver that cost least for it.
    """
    events = _events(lane, number, size)
    fence = {"$inc": {"commits": 1, "seq": size}}
    async with (
        database.client.start_session() as session,
        await session.start_transaction(ReadConcern("snapshot"), DURABLE),
    ):
        await database.partitions.update_one({"_id": lane}, fence, session=session)
        if size == 1:
            event = events[0]
            key = {"_id": event["order_id"]}
            await database.order_events.insert_one(event, session=session)
            await database.orders.replace_one(key, project(event), upsert=True, session=session)
        else:
            orders: list[ReplaceOne[OrderDocument]] = [
                ReplaceOne({"_id": event["order_id"]}, project(event), upsert=True) for event in events
            ]
            await database.order_events.insert_many(events, session=session)
            await database.orders.bulk_write(orders, session=session)


def _events(lane: int, number: int, size: int) -> list[EventDocument]:
    generation, step = divmod(number, len(STATUSES))
    time, metadata = now(), {"lat": 52.5201, "lon": 13.4049}
    return [
        event_document(
            (f"floor-{lane}-{generation}-{index}", f"merchant-{lane}"),
            ("Ada Lovelace", "+44 20 7946 0958"),
            STATUSES[: step + 1],
            (lane, number * size + index + 1),
            (time, time),
            ("system", "benchmark"),
            metadata,
            metadata | {"channel": "web", "parcels": 2},
        )
        | {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
        for index in range(size)
    ]
