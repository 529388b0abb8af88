"""Reads archived orders: what stays of each in the database names the part of the archive with its events."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tracking_shared.contracts.access import Principal, reaches
from tracking_shared.contracts.archive import BadArchive, without_erased
from tracking_shared.contracts.documents import (
    ArchivedOrderDocument,
    EventDocument,
    UpdateDocument,
    applied_outcome,
)
from tracking_shared.contracts.identifiers import is_identifier
from tracking_shared.contracts.problems import ProblemError
from tracking_shared.errors import SettingsError
from tracking_shared.storage.database import Database
from tracking_shared.storage.erasures import erased_among
from tracking_shared.storage.reads import bounded_read

if TYPE_CHECKING:
    from tracking_shared.storage.archive_files import ArchiveFolder

READS_AT_ONCE = 4
"""Reads of files, each in a thread, with some 2,000 events in memory. Further ones wait."""

T = TypeVar("T")


def is_of_archived(update: UpdateDocument) -> bool:
    """True if the update was refused because its order is archived."""
    return update["problem"] is not None and update["problem"]["slug"] == "order-archived"


class ArchivedOrders:
    """The archived orders of an installation. Without a folder, it is only known that they are archived."""

    def __init__(self, database: Database, folder: Path | None) -> None:
        """Raises `SettingsError` if there is a folder and the package that reads it is missing."""
        self._database = database
        self._folder = None if folder is None else _opened(folder)
        self._reads = asyncio.Semaphore(READS_AT_ONCE)

    async def events(
        self,
        order_id: str,
        principal: Principal,
        *,
        after: int = 0,
        limit: int | None = None,
        until: datetime | None = None,
    ) -> list[EventDocument] | None:
        """The events of an archived order beyond the version `after`, at most `limit`; or only the newest one
        that was recorded `until` then. None: there is no such order for the caller, or it is not archived.

        Raises:
            ProblemError: `order-not-found`: it is archived, and there is no folder here.
                `archive-unavailable`: the file cannot be read.
            DatabaseUnavailable: no answer, or not in time.
        """
        archived = await self._find(order_id, principal)
        if archived is None:
            return None
        folder = self._folder
        if folder is None:
            detail = f"The order {order_id} is archived, and this service has no archive to read it from."
            raise ProblemError("order-not-found", detail)
        part = archived["part"]
        events = await self._read(order_id, lambda: folder.find(part, order_id, after, limit))
        if until is not None:
            events = [event for event in events if event["recorded_at"] <= until][-1:]
        return await self._without_erased(events)

    async def newest(self, order_id: str, principal: Principal, at: datetime | None) -> EventDocument | None:
        """The newest event of an archived order, or the newest one that was recorded until `at`: `events`."""
        found = await self._find(order_id, principal)
        if found is None:
            return None
        after = found["version"] - 1 if at is None else 0
        events = await self.events(order_id, principal, after=after, until=at)
        return events[-1] if events else None

    async def applied(self, order_id: str, update_id: str, principal: Principal) -> UpdateDocument | None:
        """The outcome of an update that was applied to an archived order; None: there is none, or no folder
        here.

        Raises:
            ProblemError: `archive-unavailable`: the file cannot be read.
            DatabaseUnavailable: no answer, or not in time.
        """
        if self._folder is None:
            return None
        events = await self.events(order_id, principal) or []
        return next((applied_outcome(event) for event in events if event["update_id"] == update_id), None)

    async def _find(self, order_id: str, principal: Principal) -> ArchivedOrderDocument | None:
        if not is_identifier(order_id):
            return None
        with bounded_read():
            found = await self._database.archived_orders.find_one({"_id": order_id})
        is_readable = found is not None and reaches(principal.grant, found["_id"], found["merchant_id"])
        return found if is_readable else None

    async def _read(self, order_id: str, read: Callable[[], T]) -> T:
        async with self._reads:
            try:
                return await asyncio.to_thread(read)
            except BadArchive:
                detail = f"The order {order_id} is archived, and its archive cannot be read."
                raise ProblemError("archive-unavailable", detail) from None

    async def _without_erased(self, events: list[EventDocument]) -> list[EventDocument]:
        # A customer may have been erased since the archive was last looked at.
        with bounded_read():
            erased = await erased_among(self._database, events)
        return [without_erased(event, erased) for event in events]


def _opened(folder: Path) -> "ArchiveFolder":
    if find_spec("pyarrow") is None:
        raise SettingsError("ARCHIVE_DIR: needs the package pyarrow, which the extra `parquet` brings")
    # Imported here: only an archive needs pyarrow.
    from tracking_shared.storage.archive_files import ArchiveFolder  # noqa: PLC0415

    return ArchiveFolder(folder)
