"""Reads that do not miss what was acknowledged before them, also right after the database has elected another
primary.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.read_concern import ReadConcern

from shared.database import Database
from shared.documents import PartitionDocument

LINEARIZABLE = ReadConcern("linearizable")
"""Sees every write that was acknowledged before: the server confirms with a majority that it is still the
primary, and answers then. `majority` alone does not say that: right after an election it may answer from
before the newest acknowledged writes. The server takes it without a causal session only."""


def follow_session(session: AsyncClientSession, other: AsyncClientSession) -> None:
    """Has what `session` reads from now on be no older than what `other` has read or written."""
    if other.cluster_time is not None:
        session.advance_cluster_time(other.cluster_time)
    if other.operation_time is not None:
        session.advance_operation_time(other.operation_time)


class CausalReads:
    """Reads none of which is older than one before it, though each has a session of its own, so that they may
    run beside one another. What was seen once is never unseen, also after the database has elected another
    primary.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._latest: AsyncClientSession | None = None
        """Holds the time of the newest read; nothing runs in it."""

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncClientSession]:
        """A session for reads one after the other."""
        latest = self._latest = self._latest or self._database.client.start_session()
        async with self._database.client.start_session() as session:
            follow_session(session, latest)
            try:
                yield session
            finally:
                follow_session(latest, session)


async def newest_partitions(database: Database, session: AsyncClientSession) -> list[PartitionDocument]:
    """The documents of all partitions, not older than any commit that was acknowledged before. What `session`
    reads afterwards is not older, either.

    It costs the servers a round among them, so ask only where a wrong answer would last. Errors of the driver
    are the caller's.
    """
    return await _newest(database, {}, session)


async def newest_partition(
    database: Database, partition: int, session: AsyncClientSession
) -> PartitionDocument | None:
    """The same of one partition."""
    return next(iter(await _newest(database, {"_id": partition}, session)), None)


async def _newest(
    database: Database, which: dict[str, Any], session: AsyncClientSession
) -> list[PartitionDocument]:
    partitions = database.partitions.with_options(read_concern=LINEARIZABLE)
    async with database.client.start_session(causal_consistency=False) as own:
        documents = await partitions.find(which, session=own).to_list()
        follow_session(session, own)
    return documents
