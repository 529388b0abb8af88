"""Watches how many orders are parked, for the metrics of every replica: an alarm must neither go with the
replica that raised it, nor wait for the next command of the partition.
"""

import asyncio
import logging

from order_state import metrics
from order_state.store import Store
from shared.database import DatabaseUnavailable

log = logging.getLogger(__name__)

LOOK_SECONDS = 5


async def watch_parked(store: Store) -> None:
    """Keeps the gauge current until cancelled. While the database is away it stays as it was."""
    while True:
        try:
            for partition, orders in (await store.parked_orders()).items():
                metrics.PARKED_ORDERS.labels(partition).set(orders)
        except DatabaseUnavailable as error:
            log.debug("cannot count parked orders: %s", error)
        await asyncio.sleep(LOOK_SECONDS)
