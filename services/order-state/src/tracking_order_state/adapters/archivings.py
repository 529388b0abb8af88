"""Reads and writes of the archive in the database: what stays of archived orders, and the requests to archive
some. Errors of the driver are the caller's, except those of `OpenArchivings`.
"""

from collections.abc import Collection
from typing import Any

from pymongo import DeleteOne
from pymongo.asynchronous.client_session import AsyncClientSession

from tracking_order_state.domain.archiving import ArchiveRequest
from tracking_order_state.domain.decisions import ArchiveStep
from tracking_shared.contracts.documents import ArchivedOrderDocument
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


async def find_archived(
    database: Database, session: AsyncClientSession, order_ids: Collection[str]
) -> dict[str, ArchivedOrderDocument]:
    """What stays of those of these orders that are archived, by order id."""
    found = database.archived_orders.find({"_id": {"$in": [*order_ids]}}, session=session)
    return {one["_id"]: one for one in await found.to_list()}


async def is_open(database: Database, session: AsyncClientSession, request_id: str) -> bool:
    """True if the request is still to be carried out."""
    found = await database.archivings.find_one({"_id": request_id}, {"open": 1}, session=session)
    return found is not None and "open" in found


async def write_archiving(database: Database, session: AsyncClientSession, step: ArchiveStep) -> None:
    """Replaces orders by what stays of them, and closes the request. Their events, and their words in the
    search, are removed later, by whoever wrote the part.
    """
    if step.orders:
        removed: list[Any] = [DeleteOne({"_id": order_id}) for order_id in step.orders]
        await database.archived_orders.insert_many(list(step.orders.values()), ordered=True, session=session)
        await database.orders.bulk_write(removed, ordered=True, session=session)
    closed = {"$set": {"archived": len(step.orders)}, "$unset": {"open": ""}}
    await database.archivings.update_one({"_id": step.request_id}, closed, session=session)
