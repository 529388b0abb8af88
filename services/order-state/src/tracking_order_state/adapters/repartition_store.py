"""The stored state of a change of the number of partitions.

No step needs a transaction, since one that a killed process left open would hold up ingest until the server
ends it. Each step is a write to one document that compares what it follows, or it can be repeated by anybody
at any time.
"""

from contextlib import aclosing
from typing import Any, NamedTuple

from pymongo.errors import BulkWriteError

from tracking_order_state.adapters.store import KEY_EXISTS
from tracking_shared.contracts.documents import horizon_of
from tracking_shared.contracts.formats import FORMAT, PARTITIONS
from tracking_shared.contracts.layout import (
    SEVERAL,
    Layout,
    Routing,
    Switch,
    routing_of,
    switch_of,
    unchanged,
)
from tracking_shared.storage.database import Database, DatabaseUnavailable, driver_errors
from tracking_shared.storage.keyset import KeyOrder, read_pages

SETTINGS_ID = "partitions"

PAGE_HOMES = 1_000
"""Held or parked updates whose orders are noted at once."""

_BY_ID = KeyOrder(("_id",))


class SwitchState(NamedTuple):
    """The routing, and the change of it that is under way."""

    routing: Routing
    switch: Switch | None


class RepartitionStore:
    """Reads and writes the state. Where two processes write the same step, one is refused."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> SwitchState:
        """The current state.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with driver_errors():
            stored = await self._database.raw["settings"].find_one({"_id": SETTINGS_ID})
        if stored is None:
            raise DatabaseUnavailable("the settings were removed")
        return SwitchState(routing_of(stored), switch_of(stored))

    async def fence(self, switch: Switch) -> bool:
        """Notes that no updates are to be taken. False: another process has carried on.

        Raises:
            DatabaseUnavailable: no answer; it may be noted.
        """
        return await self._advance(switch, {"switch.phase": "fenced"})

    async def note_decided(self, switch: Switch) -> bool:
        """Notes that everything that was taken is decided. False: another process has carried on.

        Raises:
            DatabaseUnavailable: no answer; it may be noted.
        """
        return await self._advance(switch, {"switch.phase": "decided"})

    async def give_up(self, switch: Switch, routing: Routing) -> bool:
        """Notes that updates are taken again, under the next routing keys, which are bound. False: another
        process has carried on.

        Raises:
            DatabaseUnavailable: no answer; it may be noted.
        """
        return await self._advance(switch, {"switch.phase": "open", "route": routing.route + 1})

    async def activate(self, switch: Switch, routing: Routing) -> bool:
        """Makes the new layout the current one: updates are taken under the next routing keys. False: another
        process has carried on.

        Raises:
            DatabaseUnavailable: no answer; it may be done.
        """
        layout = routing.layout.with_generation(switch.count)
        changes = {"counts": list(layout.counts), "count": SEVERAL, "route": routing.route + 1}
        return await self._write(switch, {"$set": changes, "$unset": {"switch": ""}})

    async def _advance(self, switch: Switch, changes: dict[str, Any]) -> bool:
        return await self._write(switch, {"$set": changes | {"switch.attempt": switch.attempt + 1}})

    async def _write(self, switch: Switch, changes: dict[str, Any]) -> bool:
        followed = {"_id": SETTINGS_ID} | unchanged(switch)
        with driver_errors():
            result = await self._database.raw["settings"].update_one(followed, changes)
        return result.modified_count == 1

    async def prepare_partitions(self, layout: Layout) -> None:
        """Fences the workers of all partitions, whose layout is the one before, and creates the new ones.

        Raises:
            DatabaseUnavailable: no answer; some of it may be done.
        """
        partitions = self._database.partitions
        with driver_errors():
            present = await partitions.find({}).to_list()
            stamp: dict[str, Any] = {"generation": layout.generation, FORMAT: PARTITIONS.newest}
            for one in present:
                await partitions.update_one(
                    {"_id": one["_id"], "generation": {"$not": {"$gte": layout.generation}}},
                    {"$inc": {"commits": 1}, "$set": stamp},
                )
            # Nothing is recorded there yet, so any horizon is true; an early one would hold up reads by time.
            fields = {
                "seq": 0,
                "commits": 0,
                "worker": "",
                "epoch": present[0]["epoch"],
                "parked": [],
                "horizon": max(map(horizon_of, present)),
                "added_in": layout.generation,
            } | stamp
            missing = sorted(set(range(layout.partitions)) - {one["_id"] for one in present})
            await self._insert("partitions", [{"_id": number} | fields for number in missing])

    async def keep_homes(self) -> None:
        """Notes the homes of the orders that may not exist yet, but of which updates are held or parked.

        Raises:
            DatabaseUnavailable: no answer.
        """
        fields = {"order_id": 1, "partition": 1}
        with driver_errors():
            for collection in ("held", "parked"):
                source = self._database.raw[collection]
                pages = read_pages(source, {}, _BY_ID, batch=PAGE_HOMES, page=PAGE_HOMES, fields=fields)
                async with aclosing(pages):
                    async for page in pages:
                        homes = {one["order_id"]: one["partition"] for one in page}
                        await self._insert(
                            "order_homes", [{"_id": k, "partition": n} for k, n in homes.items()]
                        )

    async def _insert(self, collection: str, documents: list[dict[str, Any]]) -> None:
        """Inserts those of the documents that are not there yet."""
        if not documents:
            return
        try:
            await self._database.raw[collection].insert_many(documents, ordered=False)
        except BulkWriteError as error:  # another process was faster
            if any(fault["code"] != KEY_EXISTS for fault in error.details["writeErrors"]):
                raise
