"""Reads everything that an installation holds, for the checker."""

from shared.database import Database, driver_errors
from tracking.checker import Records


async def read_records(database: Database) -> Records:
    """Reads all of it into memory: some 2 KiB an event."""
    with driver_errors():
        return Records(
            orders=await database.orders.find({}).to_list(),
            events=await database.order_events.find({}).to_list(),
            updates=await database.updates.find({}).to_list(),
            partitions=await database.partitions.find({}).to_list(),
        )
