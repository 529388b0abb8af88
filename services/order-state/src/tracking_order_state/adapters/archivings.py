"""Requests to archive orders: finds open ones, and carries them out in a transaction."""

from collections.abc import Collection

from pymongo.asynchronous.client_session import AsyncClientSession

from tracking_order_state.domain.archiving import ArchiveRequest
from tracking_order_state.domain.decisions import ArchiveStep
from tracking_shared.storage.database import Database
from tracking_shared.storage.reads import bounded_read

MAX_OPEN = 100
"""Requests that one look finds."""


class OpenArchivings:
    """Looks for requests to archive orders."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pending(self, partitions: Collection[int]) -> list[ArchiveRequest]:
        """Open requests of these partitions.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with bounded_read():
            asked = {"open": True, "partition": {"$in": sorted(partitions)}}
            found = await self._database.archivings.find(asked).limit(MAX_OPEN).to_list()
        return [ArchiveRequest.decode(one) for one in sorted(found, key=lambda one: one["_id"])]


async def write_archiving(database: Database, session: AsyncClientSession, step: ArchiveStep) -> None:
    """Replaces orders by what stays of them, and closes the request with the last ones. Their events, and
    their words in the search, are removed later, by whoever wrote the part. Errors of the driver are the
    caller's.
    """
    if step.orders:
        await database.archived_orders.insert_many(list(step.orders.values()), ordered=True, session=session)
        await database.orders.delete_many({"_id": {"$in": list(step.orders)}}, session=session)
    if step.is_last:
        closed = {"_id": step.request_id}
        await database.archivings.update_one(closed, {"$unset": {"open": ""}}, session=session)
