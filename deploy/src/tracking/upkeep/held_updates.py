"""Held updates: those that came too early and wait for what comes before them, listed for an operator. The
content of updates is never shown.
"""

from collections.abc import AsyncIterator

import pymongo

from tracking.errors import CommandError
from tracking.upkeep.record_reader import read_partitions, server_errors
from tracking_shared.contracts.documents import HeldDocument
from tracking_shared.contracts.timestamps import format_time
from tracking_shared.storage.database import Database, driver_errors, open_database

MAX_LISTED = 10_000
"""Held updates that are shown at most: those whose time is over first."""

_FIELDS = {
    "order_id": 1,
    "update_id": 1,
    "source": 1,
    "requested_status": 1,
    "kind": 1,
    "held_at": 1,
    "until": 1,
}


class NotListed(CommandError):
    """The held updates could not be read; the message says why."""


async def list_held(mongodb_url: str, name: str, limit: int) -> AsyncIterator[str]:
    """The number of held updates, and a line for each of the first `limit`, by when their time is over.

    Raises:
        NotListed: the database does not answer.
        NoInstallation: it holds no installation.
    """
    with server_errors(NotListed):
        async with open_database(mongodb_url, name) as database:
            total = sum(partition.get("held", 0) for partition in await read_partitions(database))
            yield f"{total:,} held updates"
            for held in await _first_held(database, limit):
                yield describe_held(held)
            if total > limit:
                yield f"and {total - limit:,} more; --limit shows up to {MAX_LISTED:,}"


async def _first_held(database: Database, limit: int) -> list[HeldDocument]:
    with driver_errors():
        found = database.held.find({}, _FIELDS).sort([("until", pymongo.ASCENDING)])
        return await found.limit(limit).to_list()


def describe_held(held: HeldDocument) -> str:
    """A held update in one line, without its content."""
    asked = held["requested_status"] or held.get("kind", "")
    return (
        f"{held['order_id']}  update {held['update_id']}  {asked}  of {held['source']['id']}"
        f"  since {format_time(held['held_at'])}  until {format_time(held['until'])}"
    )
