"""Finds the erasures that are to be carried out, and the orders that they concern."""

from tracking_order_state.adapters.archived_events import erase_archived
from tracking_order_state.adapters.erasure_store import erasure_key, find_person
from tracking_order_state.domain.erasure import Erasure
from tracking_shared.contracts.erased import contact_key
from tracking_shared.contracts.timestamps import now
from tracking_shared.storage.database import Database, driver_errors
from tracking_shared.storage.reads import bounded_read

MAX_OPEN = 100
"""Erasures that one look carries out, the oldest first."""


class OpenErasures:
    """Looks for open erasures. The orders that it finds are a hint: whoever erases reads them again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pending(self) -> list[Erasure]:
        """The open erasures, the oldest first, at most `MAX_OPEN`.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with bounded_read():
            found = self._database.erasures.find({"open": True}).sort("_id", 1).limit(MAX_OPEN)
            return [Erasure.decode(one) async for one in found]

    async def done_in(self, erasure: Erasure) -> set[int]:
        """The partitions in which the erasure is done.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with bounded_read():
            progress = await self._database.erasure_progress.find({"erasure_id": erasure.id}).to_list()
        return {one["partition"] for one in progress if one["done"]}

    async def find(self, erasure: Erasure, partition: int, limit: int) -> list[str]:
        """The ids of at most `limit` orders of a partition that hold the customer and are old enough.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with bounded_read():
            return await find_person(self._database, erasure, partition, limit)

    async def erase_archived(self, erasure: Erasure, partition: int) -> int:
        """Erases the person in some events of archived orders that were not removed yet: `erase_archived`.

        Raises:
            DatabaseUnavailable: no answer, or not in time.
        """
        return await erase_archived(self._database, erasure, partition)

    async def finish(self, erasure: Erasure) -> bool:
        """Closes the erasure if it is done in every partition, and removes the contact. Returns True if it is
        closed.

        Raises:
            DatabaseUnavailable: no answer; it may be closed.
        """
        with driver_errors():
            progress = await self._database.erasure_progress.find({"erasure_id": erasure.id}).to_list()
            done = {one["partition"] for one in progress if one["done"]}
            # All that there are now: this process may not know yet that their number was changed.
            partitions = await self._database.partitions.find({}, {"_id": 1}).to_list()
            if any(one["_id"] not in done for one in partitions):
                return False
            digest = contact_key(await erasure_key(self._database), next(iter(erasure.contact_refs)))
            counts = {name: sum(one[name] for one in progress) for name in ("orders", "events")}
            closed = {"contact_key": digest, "done_at": now(), **counts}
            await self._database.erasures.update_one(
                {"_id": erasure.id},
                {"$set": closed, "$unset": {"contact_refs": "", "open": ""}},
            )
        return True
