"""Reads for work that no caller asked for: overdue orders, held updates, erasures, archiving."""

from collections.abc import Collection
from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession

from tracking_order_state.adapters.erasure_store import find_person
from tracking_order_state.adapters.held_updates import by_order
from tracking_order_state.adapters.order_reads import read_orders
from tracking_order_state.domain.erasure import Erasure
from tracking_shared.contracts.documents import HeldDocument, OrderDocument, ParkedDocument
from tracking_shared.contracts.formats import HELD, PARKED, upcast_all
from tracking_shared.storage.database import Database, driver_errors
from tracking_shared.storage.embedded_database import match_stages

LOOKED_AT_ORDERS = 1_000
"""Orders of a person that are looked at for one that is old enough to be erased."""


class SystemReads:
    """Reads in the session of a store, so as of its newest commit. Without an answer each raises
    `DatabaseUnavailable`.
    """

    def __init__(self, database: Database, session: AsyncClientSession) -> None:
        self._database = database
        self._session = session

    async def orders(self, order_ids: Collection[str]) -> dict[str, OrderDocument]:
        """The documents of these orders, by their ids."""
        with driver_errors():
            return await read_orders(self._database, self._session, order_ids)

    async def held_by_id(self, ids: Collection[str]) -> dict[str, list[HeldDocument]]:
        """Those of these updates that are held, by order id."""
        with driver_errors():
            found = self._database.held.find({"_id": {"$in": [*ids]}}, session=self._session)
            return by_order(upcast_all(HELD, await found.to_list()))

    async def parked(self, partition: int) -> list[ParkedDocument]:
        """The parked commands of a partition."""
        with driver_errors():
            found = self._database.parked.find({"partition": partition}, session=self._session)
            return upcast_all(PARKED, await found.to_list())

    async def holds_person(self, erasure: Erasure, partition: int) -> bool:
        """True if an order of the partition still holds the customer."""
        with driver_errors():
            return bool(
                await find_person(self._database, erasure, partition, LOOKED_AT_ORDERS, self._session)
            )

    async def unerased(self, order_ids: Collection[str], limit: int) -> list[int]:
        """The positions of the first `limit` events of these orders that still hold the customer."""
        pipeline: list[dict[str, Any]] = [
            *match_stages([{"order_id": {"$in": [*order_ids]}}, {"customer": {"$ne": None}}]),
            {"$project": {"_id": 1}},
            {"$sort": {"_id": 1}},
            {"$limit": limit},
        ]
        with driver_errors():
            found = await self._database.order_events.aggregate(pipeline, session=self._session)
            return [event["_id"] for event in await found.to_list()]

    async def is_archiving_open(self, request_id: str) -> bool:
        """True if a request to archive orders is still to be carried out."""
        with driver_errors():
            found = await self._database.archivings.find_one(
                {"_id": request_id}, {"open": 1}, session=self._session
            )
        return found is not None and "open" in found
