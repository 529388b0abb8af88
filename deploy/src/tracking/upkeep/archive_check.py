"""Checks an archive together with the database: each archived order is in its part, whole, and consistent."""

from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path

from tracking.upkeep.checker import Inspection, Records, moved_partitions
from tracking.upkeep.record_reader import archived_among, archived_pages, correction_entries, read_partitions
from tracking_shared.contracts.archive import BadArchive, Manifest, Part
from tracking_shared.contracts.documents import (
    ArchivedOrderDocument,
    EventDocument,
    PartitionDocument,
    project,
)
from tracking_shared.storage.archive_files import ArchiveFolder, sha256_of
from tracking_shared.storage.database import Database


class ArchiveCheck:
    """One check. Its memory does not grow with the archive: it reads some orders of a part at a time."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        inspection: Inspection,
        partitions: Sequence[PartitionDocument],
        page: int,
    ) -> None:
        """`partitions`: as they were at the start of the check."""
        self.orders = self.events = 0
        """Archived orders that were found, and their events."""
        self._database = database
        self._archive = ArchiveFolder(folder)
        self._inspection = inspection
        self._partitions = partitions
        self._page = page
        self._found: Counter[int] = Counter()
        """Archived orders that were found in the archive, by partition."""

    async def faults(self) -> AsyncGenerator[list[str]]:
        """Describes every contradiction.

        Raises:
            PyMongoError: to be turned into ours by the caller.
        """
        try:
            manifest = self._archive.manifest() or Manifest("", {})
        except BadArchive as error:
            yield [f"archive: {error}"]
            return
        for part in manifest.parts.values():
            async for faults in self._part_faults(part):
                yield faults
        async for faults in self._remainder_faults(manifest):
            yield faults

    async def _part_faults(self, part: Part) -> AsyncGenerator[list[str]]:
        try:
            if sha256_of(self._archive.path_of(part)) != part.sha256:
                yield [f"archive: {part.file} has another SHA-256 than the manifest says"]
            rows = 0
            for events in self._archive.histories(part):
                rows += len(events)
                yield [fault async for fault in self._order_faults(part, events)]
            if rows != part.events:
                yield [f"archive: {part.file} has {rows} events, the manifest says {part.events}"]
        except (BadArchive, OSError) as error:
            yield [f"archive: {part.file} cannot be read ({error})"]

    async def _order_faults(self, part: Part, events: list[EventDocument]) -> AsyncGenerator[str]:
        histories: dict[str, list[EventDocument]] = defaultdict(list)
        for event in events:
            histories[event["order_id"]].append(event)
        archived = await archived_among(self._database, histories)
        # The others have changed since they were written, or were restored: the database has them.
        own = {order_id: one for order_id, one in archived.items() if one["part"] == part.name}
        records = Records(
            orders=[project(histories[order_id][-1]) for order_id in own],
            events=[event for order_id in own for event in histories[order_id]],
        )
        records.audit = await correction_entries(self._database, records.events)
        for fault in self._inspection.order_faults(records):
            yield f"archive: {fault}"
        for order_id, one in own.items():
            if len(histories[order_id]) != one["version"]:
                yield f"archive: order {order_id} has {len(histories[order_id])} of {one['version']} events"
        self._count(own.values())

    def _count(self, archived: Iterable[ArchivedOrderDocument]) -> None:
        for one in archived:
            self.orders += 1
            self.events += one["version"]
            self._found[one["partition"]] += 1

    async def _remainder_faults(self, manifest: Manifest) -> AsyncGenerator[list[str]]:
        """The faults of what stays of archived orders in the database."""
        counted: Counter[int] = Counter()
        async for archived in archived_pages(self._database, self._page):
            counted.update(one["partition"] for one in archived)
            yield [
                f"archived order {one['_id']} is in {one['part']}, which the manifest does not list"
                for one in archived
                if one["part"] not in manifest.parts
            ]
        later = await read_partitions(self._database)
        moved = moved_partitions(self._partitions, later)
        for partition in later:
            number, said = partition["_id"], partition.get("archived", 0)
            if number in moved:
                continue
            if said != counted[number]:
                yield [f"partition {number}: {counted[number]} orders are archived, its document says {said}"]
            elif counted[number] > self._found[number]:
                missing = counted[number] - self._found[number]
                yield [f"partition {number}: {missing} archived orders are not in the archive"]
