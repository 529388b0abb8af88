"""The ownership of partitions: a worker claims them, recovers after a lost answer, and notices when it is
fenced.
"""

from contextlib import nullcontext
from typing import NoReturn

import pymongo
from bson.binary import UUID_SUBTYPE, Binary
from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import PyMongoError

from tracking_order_state.errors import Fenced
from tracking_shared.contracts.documents import PartitionDocument
from tracking_shared.storage.database import Database, DatabaseUnavailable, driver_errors
from tracking_shared.storage.reads import follow_session, newest_partition

FIRST_CLAIM_SECONDS = 2.0
"""A claim takes a millisecond, unless another transaction conflicts with it, or the majority lags. After this
time the transaction is ended; then the claim may take as long as any call."""


class Ownership:
    """The partitions of one worker, whose name is the id of the session that all its transactions run in."""

    def __init__(self, database: Database, session: AsyncClientSession) -> None:
        self._database = database
        self._session = session
        self.worker: str = session.session_id["id"].hex()

    async def claim(self, partition: int) -> PartitionDocument:
        """Makes this worker the owner. A claim that was applied without an answer does no harm: the next one
        is another claim of the same worker.

        Raises:
            DatabaseUnavailable: no answer, no such partition, or another transaction conflicts and could not
                be ended.
        """
        try:
            document = await self._claim_within(FIRST_CLAIM_SECONDS, partition)
        except PyMongoError as error:
            document = await self._claim_again(partition, type(error).__name__)
        if document is None:
            raise DatabaseUnavailable(f"partition {partition} is not set up")
        return document

    async def _claim_again(self, partition: int, reason: str) -> PartitionDocument | None:
        try:
            await self._end_open_transaction(partition)
        except DatabaseUnavailable as error:
            reason = f"{reason}; a transaction in its way could not be ended: {error}"
        try:
            return await self._claim_within(None, partition)
        except PyMongoError as error:
            reason = f"claim of partition {partition}: {type(error).__name__} after {reason}"
            raise DatabaseUnavailable(reason) from error

    async def _claim_within(self, seconds: float | None, partition: int) -> PartitionDocument | None:
        """One attempt; without `seconds` it may take as long as any call."""
        mine = {"$inc": {"commits": 1}, "$set": {"worker": self.worker}}
        # No transaction: one that was left open here would have no known owner. In a session of its own:
        # partitions are claimed concurrently, and during commits on others.
        async with self._database.client.start_session() as own:
            with nullcontext() if seconds is None else pymongo.timeout(seconds):
                document = await self._database.partitions.find_one_and_update(
                    {"_id": partition}, mine, return_document=ReturnDocument.AFTER, session=own
                )
            follow_session(self._session, own)
        return document

    async def _end_open_transaction(self, partition: int) -> None:
        # A worker that died or froze within a transaction holds the partition until the server ends
        # it: seconds on a server set up for it, a minute on others. A live one just runs it again.
        with driver_errors():
            document = await self._database.partitions.find_one({"_id": partition})
            if document and document["worker"] not in ("", self.worker):
                session = Binary(bytes.fromhex(document["worker"]), UUID_SUBTYPE)
                await self._database.client.admin.command({"killSessions": [{"id": session}]})

    async def recover(self, partition: int) -> PartitionDocument:
        """The document of an own partition after a commit whose answer was lost.

        By a linearizable read: the session knows no time of that commit, so a causal read could answer from
        before it, and the next commit would be refused as if by another worker.

        Raises:
            Fenced: another worker has claimed it meanwhile.
            DatabaseUnavailable: no answer.
        """
        with driver_errors():
            document = await newest_partition(self._database, partition, self._session)
        if document is None or document["worker"] != self.worker:
            raise Fenced(f"partition {partition} was claimed by another worker")
        return document

    async def refuse(self, session: AsyncClientSession, partitions: list[int]) -> NoReturn:
        """Raises the reason why some of these partitions are not at the positions of this worker. Reads in
        the transaction of `session`.

        Raises:
            Fenced: another worker has claimed one of them.
            DatabaseUnavailable: they are all this worker's: an earlier commit of its own has come late.
        """
        found = await self._database.partitions.find(
            {"_id": {"$in": partitions}}, {"worker": 1}, session=session
        ).to_list()
        if [document["worker"] for document in found] != [self.worker] * len(partitions):
            raise Fenced(f"another worker has claimed one of the partitions {partitions}")
        raise DatabaseUnavailable(f"an earlier commit on one of the partitions {partitions} has come late")
