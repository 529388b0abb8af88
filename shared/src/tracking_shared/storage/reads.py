"""Bounded reads, snapshots, and the end of the event log."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pymongo
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.read_concern import ReadConcern

from tracking_shared.contracts.cursors import Position, resync_reason
from tracking_shared.contracts.documents import EventDocument, PartitionDocument, log_start_of, position_keys
from tracking_shared.contracts.formats import ORDER_EVENTS, PARTITIONS, upcast_all
from tracking_shared.contracts.layout import are_numbered, layout_in
from tracking_shared.storage.database import Database, DatabaseUnavailable, driver_errors

READ_SECONDS = 5.0
"""The driver sends what is left of it as `maxTimeMS`, and stops waiting by itself when it has passed."""


@contextmanager
def bounded_read(seconds: float = READ_SECONDS) -> Iterator[None]:
    """Ends what the database is asked inside after `seconds`, and turns the driver's errors into ours.

    Raises:
        DatabaseUnavailable: no answer, or not in time.
    """
    with driver_errors(), pymongo.timeout(seconds):
        yield


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
    """The documents of all partitions, none older than a commit that was acknowledged before. What `session`
    reads afterwards is not older, either.

    Each costs the servers a round among them, so ask only where a wrong answer would last. Errors of the
    driver are the caller's.
    """
    # One by one: of more than one document, a linearizable read promises nothing. None is ever
    # removed, and one that is new has nothing yet.
    known = await database.partitions.find({}, {"_id": 1}, session=session).to_list()
    found = [await newest_partition(database, each["_id"], session) for each in known]
    return [document for document in found if document is not None]


async def newest_partition(
    database: Database, partition: int, session: AsyncClientSession
) -> PartitionDocument | None:
    """The same of one partition."""
    partitions = database.partitions.with_options(read_concern=LINEARIZABLE)
    async with database.client.start_session(causal_consistency=False) as own:
        document: PartitionDocument | None = await partitions.find_one({"_id": partition}, session=own)
        follow_session(session, own)
    return document


async def read_log_end(
    database: Database,
    partitions: int,
    session: AsyncClientSession | None = None,
) -> Position:
    """The newest position of every partition.

    Raises:
        DatabaseUnavailable: no event log was set up. Errors of the driver are the caller's.
    """
    found = await database.partitions.find({}, session=session).to_list()
    return _end_of(_checked(found, partitions))


async def read_log_ends(
    database: Database, partitions: int, session: AsyncClientSession | None = None
) -> tuple[Position, Position]:
    """The positions behind which the log begins, and at which it ends: whoever has read up to the first one
    misses nothing of what follows.

    Raises:
        DatabaseUnavailable: no event log was set up. Errors of the driver are the caller's.
    """
    documents = _checked(await database.partitions.find({}, session=session).to_list(), partitions)
    end = _end_of(documents)
    return Position(end.epoch, tuple(map(log_start_of, documents))), end


async def read_log_ends_to_resume(
    database: Database, partitions: int, position: Position, session: AsyncClientSession
) -> tuple[Position, Position]:
    """`read_log_ends` for a reader that resumes from `position`.

    A primary that was just elected may answer from before the newest commits. A reader that hears that its
    position is none of this log's drops what it has, so if `position` cannot be resumed at that end, the end
    is read again, surely not from before any acknowledged commit.

    Raises:
        DatabaseUnavailable: no event log was set up. Errors of the driver are the caller's.
    """
    start, end = await read_log_ends(database, partitions, session)
    if resync_reason(position, end) is not None:
        end = await read_newest_log_end(database, partitions, session)
    return start, end


async def read_newest_log_end(database: Database, partitions: int, session: AsyncClientSession) -> Position:
    """The end of the log, surely not from before any acknowledged commit. It costs the servers a round among
    them.

    Raises:
        DatabaseUnavailable: no event log was set up. Errors of the driver are the caller's.
    """
    return _end_of(_checked(await newest_partitions(database, session), partitions))


async def read_events(
    database: Database, partition: int, first: int, last: int, session: AsyncClientSession
) -> list[EventDocument]:
    """The events from the seq `first` to `last`, both included, in their order. The caller bounds how many.

    By keys, not by a range of them: see `embedded_database`. Errors of the driver are the caller's.
    """
    keys = position_keys(partition, first, last)
    found = database.order_events.find({"_id": {"$in": keys}}, session=session)
    return upcast_all(ORDER_EVENTS, await found.sort("_id", 1).to_list())


def _checked(documents: list[PartitionDocument], partitions: int) -> list[PartitionDocument]:
    """The partitions in their order, whatever the order in which they were found. There are at least as many
    as at the first start."""
    documents = sorted(upcast_all(PARTITIONS, documents), key=lambda document: document["_id"])
    if not are_numbered((document["_id"] for document in documents), partitions):
        raise DatabaseUnavailable("the log is not set up yet: order-state does that when it starts")
    return documents


def _end_of(documents: list[PartitionDocument]) -> Position:
    seqs = tuple(document["seq"] for document in documents)
    return Position(documents[0]["epoch"], seqs, layout_in(documents).counts[0])
