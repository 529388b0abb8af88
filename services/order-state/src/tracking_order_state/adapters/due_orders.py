"""Finds the orders whose due time has passed, by the clock of the database."""

from datetime import UTC, datetime

from tracking_shared.contracts.documents import due_key
from tracking_shared.contracts.timestamps import UNIX_EPOCH, to_milliseconds
from tracking_shared.storage.database import Database
from tracking_shared.storage.reads import bounded_read


async def database_time(database: Database) -> datetime:
    """The time by the clock of the database, which is one for all workers.

    Raises:
        DatabaseUnavailable: no answer.
    """
    with bounded_read():
        told: datetime = (await database.raw.command("hello"))["localTime"]
    return to_milliseconds(told.replace(tzinfo=UTC))


class DueOrders:
    """Looks for orders that await their `order.overdue`. What it finds is a hint: whoever records the event
    reads the orders again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def time(self) -> datetime:
        """The time by which an order is due or not: that of the database.

        Raises:
            DatabaseUnavailable: no answer.
        """
        return await database_time(self._database)

    async def find(self, partition: int, now: datetime, limit: int) -> list[str]:
        """The ids of at most `limit` orders of a partition that were due at `now` or before, the earliest
        first.

        Raises:
            DatabaseUnavailable: no answer.
        """
        keys = {"$gte": due_key(partition, UNIX_EPOCH), "$lte": due_key(partition, now)}
        with bounded_read():
            found = self._database.orders.find({"due_key": keys}, {"_id": 1}, sort=[("due_key", 1)])
            return [order["_id"] for order in await found.limit(limit).to_list()]
