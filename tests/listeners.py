"""A listener on the events exchange, and the final examination of an installation."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson

from message_checks import check_message
from tracking.upkeep.checker import Acknowledged, find_faults
from tracking.upkeep.record_reader import queue_lengths, read_records
from tracking_shared.messaging.connection import Connection, connect
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.messaging.topology import DEAD_QUEUE, EVENTS_EXCHANGE, partition_queue_name
from tracking_shared.storage.database import open_database


@asynccontextmanager
async def listening(amqp_url: str, partitions: int) -> AsyncIterator[list[dict[str, Any]]]:
    """Everything that is announced while the body runs, in the order of its arrival."""
    announced: list[dict[str, Any]] = []
    async with connect(amqp_url, "listener") as connection:
        await connection.declare(partitions)
        _, consumer = await connection.private_consumer(EVENTS_EXCHANGE, limit=1_000_000)

        async def listen() -> None:
            while deliveries := await consumer.next_batch(100):
                for delivery in deliveries:
                    events = orjson.loads(delivery.body)
                    check_message("announcedEvents", events)
                    announced.extend(events)
                await deliveries[-1].acknowledge_through()

        task = asyncio.create_task(listen())
        try:
            yield announced
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, BrokerUnavailable):
                await task


async def examine(
    environment: dict[str, str],
    acknowledged: Iterable[Acknowledged],
    announced: list[dict[str, Any]] | None = None,
    *,
    seconds: float = 30.0,
) -> None:
    """Fails unless, within `seconds`, all queues are empty and the checker finds no fault."""
    told = list(acknowledged)
    deadline = time.monotonic() + seconds
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        while True:
            records = await read_records(database)
            lengths = await queue_lengths(environment["AMQP_URL"], len(records.partitions))
            del lengths[DEAD_QUEUE]  # what is refused for good stays there
            faults = find_faults(records, told, announced)
            if not faults and not any(lengths.values()):
                return
            assert time.monotonic() < deadline, (faults[:10], lengths)
            await asyncio.sleep(0.2)


async def waiting(connection: Connection, partition: int) -> list[bytes]:
    """The messages in the queue of a partition. They go back there when the connection is closed."""
    name = partition_queue_name(partition)
    number = await connection.depth(name)
    consumer = await connection.consumer(name, prefetch=number + 1)
    bodies: list[bytes] = []
    while len(bodies) < number:
        bodies += [delivery.body for delivery in await consumer.next_batch(number)]
    return bodies
