"""Archives final orders: writes them to the files of an archive, and has them leave the database.

A part goes through these steps, each of which may be interrupted and is repeated by the next run:

1. The file is written and flushed to the disk, then listed in the manifest. Until then nothing has changed.
2. The owners of the partitions are asked to archive its orders. An order leaves the database if it still
   stands as it was written, and leaves a small document behind that names the part.
3. After a time in which every reader that began before has ended, the events are removed.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic

from pymongo.errors import BulkWriteError
from uuid_utils import uuid7

from tracking.errors import CommandError
from tracking.upkeep.archive_purge import EventPlace, remove_archived
from tracking.upkeep.audit import audit_trail_of
from tracking.upkeep.pacing import DatabasePace, PacedSteps
from tracking.upkeep.record_reader import read_partitions, server_errors
from tracking_shared.contracts.archive import (
    BadArchive,
    Manifest,
    Part,
    PartContents,
    in_chunks,
    whole_histories,
    without_erased,
)
from tracking_shared.contracts.documents import (
    ArchivableOrderDocument,
    ArchivingDocument,
    ErasureDocument,
    EventDocument,
)
from tracking_shared.contracts.erased import ErasedCustomers
from tracking_shared.contracts.timestamps import now
from tracking_shared.step_size import StepSize
from tracking_shared.storage.archive_files import ArchiveFolder, PartWriter
from tracking_shared.storage.audit_trail import Act, Actor
from tracking_shared.storage.database import Database, driver_errors, open_database
from tracking_shared.storage.erasures import erasure_key
from tracking_shared.storage.keyset import KeyOrder, read_pages
from tracking_shared.storage.reads import READ_SECONDS

PART_ORDERS = 5_000
"""Orders of one file: some 10 MB."""

GROUP_EVENTS, GROUP_ORDERS = 2_000, 500
"""Of one row group, which a reader of one order reads. The run has so many events in memory, or those of one
order."""

SELECTED_ORDERS = 50_000
"""Orders that one query selects; their ids and versions take some 10 MB of memory. The embedded database
looks at all final orders in each of these queries."""

REQUEST_ORDERS = 100
"""Orders of one request to an owner, who carries it out in as many transactions as it needs to be quick."""

INSERTED_REQUESTS = 10

READ_SIZE = StepSize(items=400, least=100, most=GROUP_EVENTS, target_seconds=0.01)
"""Events that are read at once."""

PURGE_SIZE = StepSize(items=200, least=100, most=500, target_seconds=0.015)
"""Events that are removed in one transaction."""

GRACE_SECONDS = 2 * READ_SECONDS
"""Between the move of the start of the log and the removal of events before it: a reader that saw the earlier
start has ended by then."""

PATIENCE_SECONDS = 60.0
"""The time without any progress after which order-state counts as away."""

LOOK_SECONDS, MAX_LOOK_SECONDS = 0.1, 1.0
"""Between two looks whether the owners have carried out the requests: twice as long each time."""

PARTS_AT_ONCE = 3
"""Parts whose orders are leaving while the next one is written."""

CLOCK_MARGIN = timedelta(days=1)
"""Erasures that were accepted so long before a part was looked at may have been missed: clocks differ."""

PAGE_ERASURES = 5_000
"""Erasures of one batch, of those since the run before. In memory each takes some 300 B."""

DUPLICATE_KEY = 11_000

_BY_ID = KeyOrder(("_id",))
_BY_CHANGE = KeyOrder(("updated_at", "_id"))
_SELECTED = {"version": 1, "updated_at": 1}

OnStep = Callable[[str], None]
"""Called after each step, for tests that end the process there."""


class NotArchived(CommandError):
    """Not all is archived. What is archived is complete, and the next run continues."""


@contextmanager
def archive_errors() -> Iterator[None]:
    """Turns errors of servers and of the archive into `NotArchived`."""
    try:
        with server_errors(NotArchived):
            yield
    except BadArchive as error:
        raise NotArchived(str(error)) from None
    except OSError as error:  # a full disk, a missing right
        raise NotArchived(f"the archive cannot be written: {error.strerror or error}") from None


async def archive_orders(
    mongodb_url: str,
    database_name: str,
    folder: Path,
    older_than: timedelta | None,
    actor: Actor,
    *,
    part_orders: int = PART_ORDERS,
    grace_seconds: float = GRACE_SECONDS,
    patience_seconds: float = PATIENCE_SECONDS,
    on_step: OnStep = lambda _: None,
) -> dict[str, int]:
    """Continues what an earlier run left, erases customers in the archive who were erased since, and archives
    the final orders that have not changed for `older_than` (None: none). Returns counts.

    Raises:
        NotArchived: another run is going on, a server is away, or the archive cannot be written.
        NoInstallation: the database holds no installation.
    """
    archive = ArchiveFolder(folder)
    with archive_errors(), archive.locked():
        async with open_database(mongodb_url, database_name) as database:
            [first, *_] = await read_partitions(database)
            manifest = archive.manifest() or Manifest(first["epoch"], {})
            if manifest.epoch != first["epoch"]:
                raise NotArchived(f"{folder} is the archive of another installation")
            seconds = None if older_than is None else older_than.total_seconds()
            details = {"older_than_seconds": seconds}
            await audit_trail_of(database).record(actor, Act("orders.archived", str(folder), details))
            archive.write_manifest(manifest)
            archive.remove_unlisted(manifest)
            run = ArchiveRun(
                database,
                archive,
                manifest,
                part_orders,
                grace_seconds=grace_seconds,
                patience_seconds=patience_seconds,
                on_step=on_step,
            )
            with driver_errors():
                erased = await run.erase_customers()
                await run.archive(None if older_than is None else now() - older_than)
    return {"orders": run.left, "events": run.removed, "kept": run.kept, "erased_events": erased}


class ArchiveRun:
    """One run over an archive. The manifest on the disk is as `manifest` is."""

    def __init__(
        self,
        database: Database,
        archive: ArchiveFolder,
        manifest: Manifest,
        part_orders: int = PART_ORDERS,
        *,
        grace_seconds: float = GRACE_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
        on_step: OnStep = lambda _: None,
    ) -> None:
        self.manifest = manifest
        self.left = self.kept = self.removed = 0
        """Orders that left the database in this run, or have changed and stay; events that were removed."""
        self._database = database
        self._archive = archive
        self._part_orders = part_orders
        self._grace_seconds = grace_seconds
        self._patience_seconds = patience_seconds
        self._on_step = on_step
        self._pace = DatabasePace()
        self._reading = PacedSteps(self._pace, READ_SIZE)
        self._purging = PacedSteps(self._pace, PURGE_SIZE)
        self._progress_at = monotonic()
        """When order-state has last carried out a request."""

    async def archive(self, before: datetime | None) -> None:
        """Finishes parts of earlier runs, then archives final orders that changed last before this time.

        Raises:
            NotArchived: order-state does not carry it out.
            PyMongoError, BadArchive: to be turned into ours by the caller.
        """
        for part in self.manifest.unfinished():
            await self._finish(part)  # first: else the same orders would be written again
        finishing: deque[asyncio.Task[None]] = deque()
        try:
            if before is not None:
                async with aclosing(self._written(before)) as parts:
                    async for part in parts:
                        finishing.append(asyncio.create_task(self._finish(part)))
                        if len(finishing) > PARTS_AT_ONCE:
                            await finishing.popleft()
            while finishing:
                await finishing.popleft()
        finally:
            for task in finishing:
                task.cancel()
            await asyncio.gather(*finishing, return_exceptions=True)

    # Writing.

    async def _written(self, before: datetime) -> AsyncGenerator[Part]:
        pages = read_pages(
            self._database.orders,
            {"active": False, "updated_at": {"$lt": before}},
            _BY_CHANGE,
            batch=SELECTED_ORDERS,
            page=SELECTED_ORDERS,
            fields=_SELECTED,
        )
        async with aclosing(pages):
            while True:
                async with self._pace.use():
                    page = await anext(pages, None)
                if page is None:
                    return
                selected = [(order["_id"], order["version"]) for order in page]
                del page  # not kept beside them, for as long as ten parts take
                for start in range(0, len(selected), self._part_orders):
                    part = await self._write(dict(selected[start : start + self._part_orders]))
                    if part is not None:
                        yield part

    async def _write(self, versions: Mapping[str, int]) -> Part | None:
        name = f"part-{uuid7().hex}"
        contents, written_at = PartContents(), now()
        writer = PartWriter(self._archive.folder / f"{name}.parquet")
        try:
            for chunk in in_chunks(versions, GROUP_EVENTS, GROUP_ORDERS):
                wanted = {order_id: versions[order_id] for order_id in chunk}
                found = [
                    event async for some in self._reading.over(wanted, self._events_of) for event in some
                ]
                histories = whole_histories(wanted, found)
                if events := [event for history in histories.values() for event in history]:
                    contents.add(events)
                    writer.add(events)
        except BaseException:
            writer.abandon()
            raise
        if contents.first_recorded_at is None or contents.last_recorded_at is None:
            writer.abandon()
            return None
        size, digest = writer.finish()
        self._on_step("written")
        part = Part(
            name=name,
            file=f"{name}.parquet",
            state="written",
            orders=contents.orders,
            events=contents.events,
            left=0,
            first_order_id=contents.first_order_id,
            last_order_id=contents.last_order_id,
            first_recorded_at=contents.first_recorded_at,
            last_recorded_at=contents.last_recorded_at,
            positions=contents.positions or {},
            bytes=size,
            sha256=digest,
            written_at=written_at,
            erased_at=written_at,
        )
        self._list(part)
        self._on_step("listed")
        return part

    async def _events_of(self, order_ids: list[str]) -> list[EventDocument]:
        return await self._database.order_events.find({"order_id": {"$in": order_ids}}).to_list()

    def _list(self, part: Part) -> None:
        self.manifest = self.manifest.with_part(part)
        self._archive.write_manifest(self.manifest)

    # Leaving the database.

    async def _finish(self, part: Part) -> None:
        await self._request(part)
        self._on_step("requested")
        await self._wait_for_owners(part)
        self._on_step("left")
        await asyncio.sleep(self._grace_seconds)
        left = await self._purge(part)
        async with self._pace.use():
            await self._database.archivings.delete_many({"part": part.name})
        self._on_step("unrequested")
        self._list(replace(self.manifest.parts[part.name], state="done", left=left))
        self._on_step("done")
        self.left += left
        self.kept += part.orders - left

    async def _request(self, part: Part) -> None:
        requests = self._requests(part)
        for number, start in enumerate(range(0, len(requests), INSERTED_REQUESTS)):
            async with self._pace.use():
                try:
                    some = requests[start : start + INSERTED_REQUESTS]
                    await self._database.archivings.insert_many(some, ordered=False)
                except BulkWriteError as error:  # an earlier run has asked for them
                    if any(fault["code"] != DUPLICATE_KEY for fault in error.details["writeErrors"]):
                        raise
            self._on_step(f"asked {number}")

    def _requests(self, part: Part) -> list[ArchivingDocument]:
        """The requests for a part, always the same."""
        columns = ("order_id", "version", "partition", "seq", "recorded_at")
        by_partition: dict[int, list[ArchivableOrderDocument]] = defaultdict(list)
        for rows in self._archive.rows(part, columns):
            newest = {row["order_id"]: row for row in rows}  # by version within an order
            for order_id, row in newest.items():
                by_partition[row["partition"]].append(
                    {
                        "order_id": order_id,
                        "version": row["version"],
                        "seq": row["seq"],
                        "updated_at": row["recorded_at"],
                    }
                )
        return [
            {
                "_id": f"{part.name}/{partition}/{start}",
                "part": part.name,
                "partition": partition,
                "orders": orders[start : start + REQUEST_ORDERS],
                "open": True,
            }
            for partition, orders in by_partition.items()
            for start in range(0, len(orders), REQUEST_ORDERS)
        ]

    async def _wait_for_owners(self, part: Part) -> None:
        waiting, self._progress_at, pause = -1, monotonic(), LOOK_SECONDS
        while True:
            async with self._pace.use():
                asked = self._database.archivings.find({"part": part.name, "open": True}, {"_id": 1})
                still_open = len(await asked.to_list())
            if not still_open:
                return
            if still_open != waiting:
                waiting, self._progress_at = still_open, monotonic()
            elif monotonic() > self._progress_at + self._patience_seconds:
                raise NotArchived(
                    f"order-state has archived nothing for {self._patience_seconds:g} s; start it, and repeat"
                    " the command: it continues"
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_LOOK_SECONDS)

    async def _purge(self, part: Part) -> int:
        """Removes the events of the orders that are archived in the part. Returns the number of these."""
        left = number = 0
        for rows in self._archive.rows(part, ("order_id", "partition", "seq")):
            orders: dict[str, list[EventPlace]] = defaultdict(list)
            for row in rows:
                orders[row["order_id"]].append(EventPlace(row["partition"], row["seq"]))
            sizes = {order_id: len(places) for order_id, places in orders.items()}
            async for removed in self._purging.over(sizes, partial(self._remove, part, orders)):
                left += len(removed)
                self.removed += sum(sizes[order_id] for order_id in removed)
                self._on_step(f"purged {number}")
                number += 1
        return left

    async def _remove(
        self, part: Part, orders: Mapping[str, Sequence[EventPlace]], order_ids: list[str]
    ) -> list[str]:
        return await remove_archived(
            self._database, part.name, {order_id: orders[order_id] for order_id in order_ids}
        )

    # Erasing.

    async def erase_customers(self) -> int:
        """Erases customers in the archive who were erased since it was last looked at. Returns the number of
        events.
        """
        looked_at, parts = now(), list(self.manifest.parts.values())
        if not parts:
            return 0
        since = min(part.erased_at for part in parts) - CLOCK_MARGIN
        key, erasures = await erasure_key(self._database), await _read_erasures(self._database, since)
        total = 0
        for part in parts:
            recent = [one for one in erasures if one["accepted_at"] >= part.erased_at - CLOCK_MARGIN]
            if recent:
                total += self._erase_in(part, ErasedCustomers.of(key, recent), looked_at)
            else:
                self.manifest = self.manifest.with_part(replace(part, erased_at=looked_at))
        self._archive.write_manifest(self.manifest)
        return total

    def _erase_in(self, part: Part, erased: ErasedCustomers, looked_at: datetime) -> int:
        columns = ("customer_contact_ref", "merchant_id", "created_at")
        number = sum(
            erased.erased_at(row["customer_contact_ref"], row["merchant_id"], row["created_at"]) is not None
            for rows in self._archive.rows(part, columns)
            for row in rows
        )
        if not number:
            self._list(replace(part, erased_at=looked_at))
            return 0
        file = f"{part.name}-{uuid7().hex}.parquet"
        writer = PartWriter(self._archive.folder / file)
        for events in self._archive.histories(part):
            writer.add([without_erased(event, erased) for event in events])
        size, digest = writer.finish()
        self._on_step("rewritten")
        self._list(replace(part, file=file, bytes=size, sha256=digest, erased_at=looked_at))
        self._on_step("replaced")
        self._archive.path_of(part).unlink()
        return number


async def _read_erasures(database: Database, since: datetime) -> list[ErasureDocument]:
    """The erasures that were accepted since then and are not forgotten yet."""
    fields = dict.fromkeys(("merchant_id", "accepted_at", "contact_refs", "contact_key"), 1)
    accepted = {"accepted_at": {"$gte": since}}
    pages = read_pages(database.erasures, accepted, _BY_ID, batch=PAGE_ERASURES, fields=fields)
    return [erasure async for page in pages for erasure in page]
