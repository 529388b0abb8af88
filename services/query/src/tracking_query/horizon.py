"""The horizon of reads by time: nothing that was recorded before it can appear any more (decision 10)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from pymongo.asynchronous.client_session import AsyncClientSession

from tracking_shared.contracts.documents import horizon_of
from tracking_shared.contracts.timestamps import UNIX_EPOCH, format_time
from tracking_shared.storage.database import Database
from tracking_shared.storage.reads import bounded_read

AS_OF = "As-Of"
"""The header that says where the horizon was."""


async def read_horizon(database: Database, session: AsyncClientSession | None = None) -> datetime:
    """The horizon of the partition that is furthest behind. 1970 where one has none yet.

    Raises:
        PyMongoError: to be turned into ours by the caller, who also bounds the time.
    """
    partitions = await database.partitions.find({}, {"horizon": 1}, session=session).to_list()
    return min(map(horizon_of, partitions), default=UNIX_EPOCH)


async def read_archived_until(database: Database, start: datetime) -> datetime | None:
    """The time of the newest archived event, unless it is before `start`: then nothing that was recorded from
    `start` on was archived. To be read after the data.

    Raises:
        DatabaseUnavailable: no answer, or not in time.
    """
    with bounded_read():
        partitions = await database.partitions.find({}, {"archived_until": 1}).to_list()
    newest = max((one["archived_until"] for one in partitions if "archived_until" in one), default=None)
    return newest if newest is not None and newest >= start else None


@asynccontextmanager
async def reading_as_of(database: Database) -> AsyncIterator[datetime]:
    """Reads the horizon. What the same task reads in the body holds all that was recorded before it: the
    reads are one causally consistent session, so a member that became primary meanwhile is not behind. One
    read at a time.

    Raises:
        DatabaseUnavailable: no answer, or not in time.
    """
    async with database.client.start_session(causal_consistency=True).bind():
        with bounded_read():
            horizon = await read_horizon(database)
        yield horizon


def as_of_header(horizon: datetime | None) -> dict[str, str]:
    """The header, where there is a horizon to tell."""
    return {} if horizon is None else {AS_OF: format_time(horizon)}
