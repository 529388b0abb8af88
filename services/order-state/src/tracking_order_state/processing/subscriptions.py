"""Subscribes to the partitions, and hands each active one to the worker.

The broker alone decides which replica works on which partition: every replica subscribes to every partition,
and the single active consumer of a queue is the one that subscribed first. A replica subscribes to its
preferred partitions at once and to the others a moment later, and gives those up from time to time: so a
replica that returns gets its preferred ones back.
"""

import asyncio
import logging
from contextlib import suppress
from functools import partial
from math import inf
from random import uniform

from tracking_order_state import metrics
from tracking_order_state.errors import Fenced
from tracking_order_state.processing.silence import SilenceWatch
from tracking_order_state.processing.stages import PartitionState
from tracking_order_state.processing.upgrade_wait import UpgradeWait, seconds_to_wait
from tracking_order_state.processing.worker import PartitionConsumer, Worker
from tracking_order_state.settings import OrderStateSettings
from tracking_shared.contracts.formats import COMMANDS
from tracking_shared.messaging.connection import Connection
from tracking_shared.messaging.topology import partition_queue_name
from tracking_shared.serving import background

log = logging.getLogger(__name__)

TICK_SECONDS = 1
"""The interval at which the owner of a partition checks whether its horizon is due. All partitions of a
process check at the same moment, so that they share a transaction."""

PREFETCH_MESSAGES = 20
"""Unacknowledged messages per partition. Each holds many commands; at the bounds of one message that is
10 MiB."""


def is_preferred(partition: int, ordinal: int, count: int) -> bool:
    """Returns True for the partitions that this replica is to own when all replicas are up."""
    return partition % count == ordinal % count


async def consume_partitions(
    connection: Connection,
    partitions: int,
    settings: OrderStateSettings,
    worker: Worker,
    silence: SilenceWatch,
) -> None:
    """Works on all partitions until the connection is lost.

    Raises:
        BrokerUnavailable: the connection is gone.
        BrokerSilent: the node delivers nothing.
    """
    for partition in range(partitions):
        oldest = partial(worker.oldest_command_seconds, partition)
        metrics.OLDEST_COMMAND_SECONDS.labels(partition).set_function(oldest)
    consumed = (
        _consume_partition(connection, partition, settings, worker, silence)
        for partition in range(partitions)
    )
    async with background(worker.run(), silence.run(connection), *consumed):
        await asyncio.get_running_loop().create_future()  # until one of them fails


async def _consume_partition(
    connection: Connection,
    partition: int,
    settings: OrderStateSettings,
    worker: Worker,
    silence: SilenceWatch,
) -> None:
    preferred = is_preferred(partition, settings.replica_ordinal, settings.replica_count)
    if not preferred:
        await asyncio.sleep(settings.standby_delay_seconds)
    upgrade = UpgradeWait(partition)
    while True:
        consumer = await connection.consumer(
            partition_queue_name(partition), prefetch=PREFETCH_MESSAGES, form=COMMANDS
        )
        partition_consumer = PartitionConsumer(PartitionState(partition, consumer.check), consumer)
        silence.subscribed(partition_consumer)
        worker.subscribed(partition_consumer)
        try:
            turn = None if preferred else settings.rebalance_seconds * uniform(0.8, 1.2)
            await _take_turn(partition_consumer, worker, upgrade, turn)
        except Fenced:
            log.info("subscribing again to partition %d", partition)
        finally:
            upgrade.pause()
            await partition_consumer.wait_until_idle()
            worker.processor.cache.drop(partition)
            await consumer.close()


async def _take_turn(
    partition_consumer: PartitionConsumer, worker: Worker, upgrade: UpgradeWait, seconds: float | None
) -> None:
    """Has deliveries handled until the channel closes, or `seconds` have passed and none is in work. In
    between, has the horizon moved on if this worker owns the partition, also while the next delivery waits
    for a later release.
    """
    loop = asyncio.get_running_loop()
    consumer = partition_consumer.consumer
    end = inf if seconds is None else loop.time() + seconds
    while not consumer.is_closed and loop.time() < end:
        newer = consumer.first_newer
        if newer is not None and partition_consumer.awaits_upgrade is None:
            upgrade.begin(newer)
            partition_consumer.awaits_upgrade = newer
            end = loop.time() + seconds_to_wait(newer)
        next_tick = (loop.time() // TICK_SECONDS + 1) * TICK_SECONDS
        arrived = False
        with suppress(TimeoutError):
            async with asyncio.timeout_at(min(next_tick, end)):
                await (consumer.arrival() if newer is None else loop.create_future())
                arrived = True
        if arrived and consumer.first_newer is None:
            upgrade.end()
        if arrived or newer is not None or partition_consumer.partition.position is not None:
            await worker.handle(partition_consumer)
