"""Subscriptions: which replica works on which partition, with the broker as the only coordinator.

Every replica subscribes to every partition; the queue's single active consumer is the one that
subscribed first. A replica queues for its own partitions at once and for the others a moment later,
and steps back in line for those from time to time: so a returning replica gets its own ones back.
"""

import asyncio
import logging
from contextlib import suppress
from math import inf
from random import uniform

from order_state.faults import Fenced
from order_state.settings import OrderStateSettings
from order_state.worker import Subscription, Worker
from shared.broker import Connection
from shared.topology import partition_queue_name

log = logging.getLogger(__name__)

TICK_SECONDS = 1
"""How often the owner of a partition looks whether its horizon is to be moved on. All partitions of a process
at the same moment, so that they share a transaction."""

PREFETCH_MESSAGES = 20
"""In hand per partition. Each is a batch by itself; at the bounds of one message that is 10 MiB."""


def is_preferred(partition: int, ordinal: int, count: int) -> bool:
    """Whether a partition is this replica's own."""
    return partition % count == ordinal % count


async def consume_partitions(connection: Connection, settings: OrderStateSettings, worker: Worker) -> None:
    """Works on all partitions until the connection is lost.

    Raises:
        BrokerUnavailable: the connection is gone.
    """
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        for partition in range(settings.partitions):
            group.create_task(_consume_partition(connection, partition, settings, worker))


async def _consume_partition(
    connection: Connection, partition: int, settings: OrderStateSettings, worker: Worker
) -> None:
    preferred = is_preferred(partition, settings.replica_ordinal, settings.replica_count)
    if not preferred:
        await asyncio.sleep(settings.standby_delay_seconds)
    while True:
        consumer = await connection.consumer(partition_queue_name(partition), prefetch=PREFETCH_MESSAGES)
        subscription = Subscription(partition, consumer)
        try:
            turn = None if preferred else settings.rebalance_seconds * uniform(0.8, 1.2)
            await _take_turn(subscription, worker, turn)
        except Fenced:
            log.info("queueing again for partition %d", partition)
        finally:
            await subscription.settle()
            await consumer.close()


async def _take_turn(subscription: Subscription, worker: Worker, seconds: float | None) -> None:
    """Has deliveries handled until the channel closes, or `seconds` have passed and none is in work; between
    them, and only of a partition that is ours, the horizon.
    """
    loop = asyncio.get_running_loop()
    end = inf if seconds is None else loop.time() + seconds
    while not subscription.consumer.is_closed and loop.time() < end:
        next_tick = (loop.time() // TICK_SECONDS + 1) * TICK_SECONDS
        arrived = False
        with suppress(TimeoutError):
            async with asyncio.timeout_at(min(next_tick, end)):
                await subscription.consumer.arrival()
                arrived = True
        if arrived or subscription.position is not None:
            await worker.handle(subscription)
