"""Finds what is due by the clock of the database: orders whose due time has passed, and held updates whose
time is over.
"""

from datetime import UTC, datetime
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection

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
        local_time: datetime = (await database.raw.command("hello"))["localTime"]
    return to_milliseconds(local_time.replace(tzinfo=UTC))


class DueDocuments:
    """Looks for documents by a field that holds a `due_key`, with an index. What it finds is a hint: whoever
    acts on it reads them again.
    """

    def __init__(self, database: Database, collection: AsyncCollection[Any], field: str) -> None:
        self._database = database
        self._collection = collection
        self._field = field

    async def time(self) -> datetime:
        """The time by which something is due or not: that of the database.

        Raises:
            DatabaseUnavailable: no answer.
        """
        return await database_time(self._database)

    async def find(self, partition: int, now: datetime, limit: int) -> list[str]:
        """The `_id` of at most `limit` documents of a partition that were due at `now` or before, the
        earliest first.

        Raises:
            DatabaseUnavailable: no answer.
        """
        keys = {"$gte": due_key(partition, UNIX_EPOCH), "$lte": due_key(partition, now)}
        with bounded_read():
            found = self._collection.find({self._field: keys}, {"_id": 1}, sort=[(self._field, 1)])
            return [document["_id"] for document in await found.limit(limit).to_list()]


class DueOrders(DueDocuments):
    """Looks for orders that await their `order.overdue`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, database.orders, "due_key")


class EndedHolds(DueDocuments):
    """Looks for held updates whose time is over."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, database.held, "held_key")
