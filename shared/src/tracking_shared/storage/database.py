"""The database adapter: how to connect, which collections and indexes there are, what a failure means."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, timedelta
from typing import Any, cast

import pymongo
from bson.codec_options import CodecOptions
from pymongo import ASCENDING, DESCENDING, AsyncMongoClient, IndexModel, ReadPreference
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    BulkWriteError,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern
from tenacity import AsyncRetrying, retry_if_exception_type, stop_never, wait_random_exponential
from uuid_utils import uuid4

from tracking_shared.contracts.cursors import CURSOR_KEY_BYTES
from tracking_shared.contracts.documents import (
    ERASURE_KEY_ID,
    OUTCOMES_ID,
    ArchivedOrderDocument,
    ArchivingDocument,
    AuditDocument,
    ErasureDocument,
    ErasureProgressDocument,
    EventDocument,
    HeldDocument,
    OrderDocument,
    OutcomesDocument,
    ParkedDocument,
    PartitionDocument,
    RevocationDocument,
    SearchDocument,
    UnknownOrdersDocument,
    UpdateDocument,
    cursor_key_id,
)
from tracking_shared.contracts.formats import InvalidFormat, NewerFormat
from tracking_shared.contracts.layout import Routing, layout_of, routing_of
from tracking_shared.contracts.timestamps import UNIX_EPOCH, now
from tracking_shared.contracts.webhooks import (
    AttemptDocument,
    SenderDocument,
    WebhookDocument,
    WebhookSecretDocument,
)
from tracking_shared.errors import TrackingError
from tracking_shared.storage.embedded_database import ANY_TIME

log = logging.getLogger(__name__)

SERVER_SELECTION_TIMEOUT_MS = 3_000
PING_SECONDS = 2

OPERATION_TIMEOUT_MS = 8_000
"""Every call ends by then, except for one that builds indexes. The driver's own bound: cancelling from
outside would cost its connection."""

LONG_BUILD_SECONDS = 1
"""Building indexes takes long; without any to build, the answer comes in milliseconds."""

MAX_CONNECTIONS = 64
MAX_RETRY_WAIT_SECONDS = 5

UPDATES_TTL_SECONDS = 30 * 24 * 3600
"""Refusals are kept for so long; then their update ids are free."""

OUTCOMES_GRACE = timedelta(days=1)
"""The time that an installation has to bring all its services to a release that finds the outcomes of applied
updates in their events. Until then they are written beside the events, too."""

SEALING_GRACE = timedelta(days=1)
"""The time that an installation has to bring all its services to a release that opens sealed cursors. Until
then cursors are written in the clear: an earlier release would end a stream for good over one that it cannot
read."""

ERASURE_KEY_BYTES = 32

DURABLE = WriteConcern("majority", j=True)

NAMESPACE_EXISTS = 48
"""MongoDB's code: somebody else has created the collection since the driver looked."""
MAJORITY = ReadConcern("majority")

INDEXES: dict[str, list[IndexModel]] = {
    # Each ends in `_id`: lists are sorted by a time and then by id, and an index serves a sort only whole.
    "orders": [
        IndexModel(
            [("merchant_id", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)],
            name="merchant_created",
        ),
        IndexModel(
            [("customer.contact_ref", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)],
            name="customer_created",
        ),
        IndexModel(
            [("status", ASCENDING), ("updated_at", DESCENDING), ("_id", DESCENDING)], name="status_updated"
        ),
        # Few merchants have the same, so a list needs no sorted index; and with a second field, it would hold
        # the orders without one, too.
        IndexModel([("reference", ASCENDING)], name="reference", sparse=True),
        IndexModel([("created_at", DESCENDING), ("_id", DESCENDING)], name="created"),
        IndexModel(
            [("active", ASCENDING), ("updated_at", DESCENDING), ("_id", DESCENDING)],
            name="active_recency",
        ),
        IndexModel(
            [
                ("merchant_id", ASCENDING),
                ("active", ASCENDING),
                ("updated_at", DESCENDING),
                ("_id", DESCENDING),
            ],
            name="merchant_active",
        ),
        # Of final orders with checkpoints since: a few, so other changes do not pay for these.
        IndexModel([("closing.at", ASCENDING)], name="closing", sparse=True),
        IndexModel([("closing.changed_at", ASCENDING)], name="closing_changed", sparse=True),
        # Those below have no entry for an order without a due time. The first one has one while the event is
        # still to come, so that its owner finds what is due however many orders there are.
        IndexModel([("due_key", ASCENDING)], name="awaits_overdue", sparse=True),
        IndexModel(
            [("active", ASCENDING), ("due_at", ASCENDING), ("_id", ASCENDING)],
            name="active_due",
            partialFilterExpression={"due_at": ANY_TIME},
        ),
        IndexModel(
            [("overdue", ASCENDING), ("due_at", ASCENDING), ("_id", ASCENDING)],
            name="overdue_due",
            partialFilterExpression={"overdue": True},
        ),
    ],
    "order_events": [
        IndexModel([("order_id", ASCENDING), ("version", ASCENDING)], name="order_version", unique=True),
        # One string, sparse: the embedded database serves no two fields with `$in`, and no partial index.
        IndexModel([("update_key", ASCENDING)], name="update_key", unique=True, sparse=True),
        IndexModel([("corrected_at", ASCENDING)], name="corrected", sparse=True),
    ],
    "order_search": [
        IndexModel([("words", ASCENDING)], name="words"),
    ],
    "search_progress": [],
    "updates": [
        IndexModel([("recorded_at", ASCENDING)], name="ttl", expireAfterSeconds=UPDATES_TTL_SECONDS),
        IndexModel([("expires_at", ASCENDING)], name="early_ttl", expireAfterSeconds=0, sparse=True),
        IndexModel([("order_id", ASCENDING)], name="order"),
        IndexModel([("merchant_id", ASCENDING)], name="merchant"),
    ],
    "unknown_orders": [
        IndexModel([("expires_at", ASCENDING)], name="ttl", expireAfterSeconds=0),
    ],
    "parked": [
        IndexModel([("order_id", ASCENDING), ("place", ASCENDING)], name="order_place", unique=True),
    ],
    "held": [
        IndexModel([("order_id", ASCENDING)], name="order"),
        IndexModel([("held_key", ASCENDING)], name="time_over"),
        IndexModel([("sender_key", ASCENDING)], name="sender", sparse=True),
    ],
    "partitions": [],
    "settings": [],
    "revocations": [
        IndexModel([("expires_at", ASCENDING)], name="ttl", expireAfterSeconds=0),
    ],
    "erasures": [
        IndexModel([("open", ASCENDING)], name="open", sparse=True),
        IndexModel([("contact_key", ASCENDING)], name="contact", sparse=True),
        IndexModel([("expires_at", ASCENDING)], name="ttl", expireAfterSeconds=0),
    ],
    "erasure_progress": [
        IndexModel([("erasure_id", ASCENDING)], name="erasure"),
        IndexModel([("expires_at", ASCENDING)], name="ttl", expireAfterSeconds=0),
    ],
    "archived_orders": [],
    "order_homes": [],
    "archivings": [
        IndexModel([("open", ASCENDING)], name="open", sparse=True),
        IndexModel([("part", ASCENDING)], name="part"),
    ],
    "webhooks": [
        IndexModel([("created_at", DESCENDING), ("_id", DESCENDING)], name="recency"),
        IndexModel([("grant.sub", ASCENDING)], name="subject"),
    ],
    "webhook_secrets": [
        IndexModel([("webhook_id", ASCENDING)], name="webhook"),
        IndexModel([("until", ASCENDING)], name="ttl", expireAfterSeconds=0),
    ],
    "webhook_attempts": [
        IndexModel([("webhook_id", ASCENDING), ("number", DESCENDING)], name="webhook_recency"),
        IndexModel([("expires_at", ASCENDING)], name="ttl", expireAfterSeconds=0),
    ],
    "webhook_senders": [
        IndexModel([("expires_at", ASCENDING)], name="ttl", expireAfterSeconds=0),
    ],
    "audit": [
        IndexModel([("at", DESCENDING), ("_id", DESCENDING)], name="recency"),
        IndexModel([("expires_at", ASCENDING)], name="ttl", expireAfterSeconds=0),
    ],
}


OBSOLETE_INDEXES = {"orders": ["active_updated"]}
"""Of earlier versions: removed at the start."""


class DatabaseUnavailable(TrackingError):
    """The database did not answer, or not in time. Whether a write happened is unknown."""


class PartitionCountMismatch(TrackingError):
    """The database was set up with another partition count than this service is configured for."""


@contextmanager
def driver_errors() -> Iterator[None]:
    """Turns the driver's errors into ours. Wrap every use of a collection in it.

    A document in a format that this release does not read counts as one that cannot be had now: who needs it
    waits, and tries again.
    """
    before = _cancellations()
    try:
        with _translated():
            yield
    except DatabaseUnavailable:
        _raise_swallowed(before)
        raise
    _raise_swallowed(before)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (NewerFormat, InvalidFormat) as error:
        raise DatabaseUnavailable(str(error)) from None
    except BulkWriteError as error:  # its text quotes the documents
        codes = sorted({fault["code"] for fault in error.details["writeErrors"]})
        raise DatabaseUnavailable(f"writes were refused with {codes}") from None
    except PyMongoError as error:
        raise DatabaseUnavailable(f"{type(error).__name__}: {str(error)[:200]}") from error


def _cancellations() -> int:
    """How often this task was asked to end."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # there is no loop, so nothing is cancelled
        return 0
    return 0 if task is None else task.cancelling()


def _raise_swallowed(before: int) -> None:
    """Ends the task if it was cancelled meanwhile.

    The driver waits with `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that comes
    together with the answer. A loop that reads the database would go on then, and its service not stop.
    """
    if _cancellations() > before:
        raise asyncio.CancelledError


def retrying_database() -> AsyncRetrying:
    """Attempts without end while the database is away, with growing, jittered waits."""
    return AsyncRetrying(
        retry=retry_if_exception_type(DatabaseUnavailable),
        wait=wait_random_exponential(multiplier=0.1, max=MAX_RETRY_WAIT_SECONDS),
        stop=stop_never,
        before_sleep=lambda state: log.warning(
            "database away: %s", state.outcome and state.outcome.exception()
        ),
    )


class Database:
    """Typed access to the collections."""

    def __init__(self, client: AsyncMongoClient[Any], name: str) -> None:
        self.client = client
        self.raw: AsyncDatabase[Any] = client.get_database(
            name,
            codec_options=CodecOptions(tz_aware=True, tzinfo=UTC),
            write_concern=DURABLE,
            read_concern=MAJORITY,
            read_preference=ReadPreference.PRIMARY,  # whatever the address says
        )
        self.orders = cast(AsyncCollection[OrderDocument], self.raw["orders"])
        self.order_events = cast(AsyncCollection[EventDocument], self.raw["order_events"])
        self.order_search = cast(AsyncCollection[SearchDocument], self.raw["order_search"])
        self.search_progress: AsyncCollection[Any] = self.raw["search_progress"]
        self.updates = cast(AsyncCollection[UpdateDocument], self.raw["updates"])
        self.unknown_orders = cast(AsyncCollection[UnknownOrdersDocument], self.raw["unknown_orders"])
        self.held = cast(AsyncCollection[HeldDocument], self.raw["held"])
        self.parked = cast(AsyncCollection[ParkedDocument], self.raw["parked"])
        self.partitions = cast(AsyncCollection[PartitionDocument], self.raw["partitions"])
        self.revocations = cast(AsyncCollection[RevocationDocument], self.raw["revocations"])
        self.erasures = cast(AsyncCollection[ErasureDocument], self.raw["erasures"])
        self.erasure_progress = cast(AsyncCollection[ErasureProgressDocument], self.raw["erasure_progress"])
        self.archived_orders = cast(AsyncCollection[ArchivedOrderDocument], self.raw["archived_orders"])
        self.order_homes: AsyncCollection[Any] = self.raw["order_homes"]
        self.archivings = cast(AsyncCollection[ArchivingDocument], self.raw["archivings"])
        self.webhooks = cast(AsyncCollection[WebhookDocument], self.raw["webhooks"])
        self.webhook_secrets = cast(AsyncCollection[WebhookSecretDocument], self.raw["webhook_secrets"])
        self.webhook_attempts = cast(AsyncCollection[AttemptDocument], self.raw["webhook_attempts"])
        self.webhook_senders = cast(AsyncCollection[SenderDocument], self.raw["webhook_senders"])
        self.audit = cast(AsyncCollection[AuditDocument], self.raw["audit"])

    async def ping(self) -> None:
        """Raises `DatabaseUnavailable` unless the database answers within `PING_SECONDS`."""
        with driver_errors(), pymongo.timeout(PING_SECONDS):
            await self.client.admin.command("ping")

    async def prepare(self, partitions: int) -> None:
        """Creates collections, indexes and partition documents where missing. Idempotent, safe to run at once
        from many processes. Takes as long as the indexes take, minutes where there are many documents.

        Raises:
            PartitionCountMismatch: the stored partition count is another one.
            DatabaseUnavailable: the database cannot be reached.
        """
        with driver_errors():
            await self._fix_partition_count(partitions)
            existing = set(await self.raw.list_collection_names())
            for name, indexes in INDEXES.items():
                if name not in existing:
                    await self._create_collection(name)
                if indexes:
                    await self._create_indexes(name, indexes)
            await self._drop_obsolete_indexes()
            # Before the partitions: whoever finds a log to read finds its key, too.
            await self._create_cursor_key()
            await self._create_erasure_key()
            await self._create_form_of_outcomes(partitions)
            await self._create_partitions(partitions)

    async def form_of_outcomes(self) -> OutcomesDocument | None:
        """The form of stored outcomes; None: that of a release before there was a choice.

        Raises:
            DatabaseUnavailable: the database cannot be reached.
        """
        with driver_errors():
            form: OutcomesDocument | None = await self.raw["settings"].find_one({"_id": OUTCOMES_ID})
        return form

    async def check_partition_count(self, partitions: int) -> bool:
        """Refuses another count than the stored one. A database that is not set up yet passes, with False.

        Raises:
            PartitionCountMismatch: the stored partition count is another one.
            DatabaseUnavailable: the database cannot be reached.
        """
        with driver_errors():
            stored = await self.raw["settings"].find_one({"_id": "partitions"})
        if stored is None:
            return False
        counts = layout_of(stored).counts
        if partitions not in counts:
            raise PartitionCountMismatch(
                f"PARTITIONS: the database was set up with {counts[-1]}, this service is configured"
                f" with {partitions}; only `tracking repartition` changes the count"
            )
        return True

    async def read_routing(self, session: AsyncClientSession | None = None) -> Routing | None:
        """The layout of the partitions and their routing keys; None: the database is not set up yet.

        Raises:
            DatabaseUnavailable: the database cannot be reached.
        """
        with driver_errors():
            stored = await self.raw["settings"].find_one({"_id": "partitions"}, session=session)
        return None if stored is None else routing_of(stored)

    async def read_newest_routing(self) -> Routing | None:
        """`read_routing`, surely not from before any acknowledged change.

        Raises:
            DatabaseUnavailable: the database cannot be reached.
        """
        settings = self.raw["settings"].with_options(read_concern=ReadConcern("linearizable"))
        with driver_errors():
            async with self.client.start_session(causal_consistency=False) as own:
                stored = await settings.find_one({"_id": "partitions"}, session=own)
        return None if stored is None else routing_of(stored)

    async def wait_for_partition_count(self, partitions: int) -> None:
        """`check_partition_count`, repeated with growing waits until the database answers.

        Raises:
            PartitionCountMismatch: the stored partition count is another one.
        """
        async for attempt in retrying_database():
            with attempt:
                await self.check_partition_count(partitions)

    async def _fix_partition_count(self, partitions: int) -> None:
        # A first start races with other replicas: whoever inserts first decides, and all check afterwards.
        await self.check_partition_count(partitions)
        try:
            await self.raw["settings"].insert_one(
                {
                    "_id": "partitions",
                    "count": partitions,
                    "epoch": uuid4().hex[:12],
                    "sealed_cursors": True,
                    "outcomes_in_events": True,
                }
            )
        except DuplicateKeyError:
            await self.check_partition_count(partitions)

    async def _create_collection(self, name: str) -> None:
        # Created ahead of use: a collection that comes into being inside a transaction makes others conflict.
        try:
            # The driver would list all collections before each one.
            await self.raw.create_collection(name, check_exists=False)
        except OperationFailure as error:
            if error.code != NAMESPACE_EXISTS:
                raise
            log.debug("collection %s was created by another process", name)

    async def _create_indexes(self, name: str, indexes: Sequence[IndexModel]) -> None:
        # As long as it takes: of many documents that is minutes, and a build that is cut off begins anew.
        # 0 is no bound; None would be the client's.
        timer = asyncio.get_running_loop().call_later(
            LONG_BUILD_SECONDS, log.info, "building the indexes of %s, which may take minutes", name
        )
        try:
            with pymongo.timeout(0):
                # Votes of a majority are enough: by default it waits for every member that holds data, and
                # one that is down would hold up the start.
                await self.raw[name].create_indexes(indexes, commitQuorum="majority")
        finally:
            timer.cancel()

    async def _drop_obsolete_indexes(self) -> None:
        for collection, names in OBSOLETE_INDEXES.items():
            present = await self.raw[collection].index_information()
            for name in present.keys() & set(names):
                with suppress(OperationFailure):  # another process was faster
                    await self.raw[collection].drop_index(name)

    async def _stored_settings(self) -> dict[str, Any]:
        stored: dict[str, Any] | None = await self.raw["settings"].find_one({"_id": "partitions"})
        if stored is None:
            raise DatabaseUnavailable("the settings were removed while the service was starting")
        return stored

    async def _create_cursor_key(self) -> None:
        stored = await self._stored_settings()
        key_id = cursor_key_id(stored["epoch"])
        if await self.raw["settings"].find_one({"_id": key_id}, {"_id": 1}) is not None:
            return
        # A log that was begun by this release or a later one has no reader that cannot open sealed cursors.
        grace = timedelta() if stored.get("sealed_cursors") else SEALING_GRACE
        key = {"key": secrets.token_bytes(CURSOR_KEY_BYTES), "sealed_from": now() + grace}
        try:
            await self.raw["settings"].insert_one({"_id": key_id, **key})
        except DuplicateKeyError:
            log.debug("the key of the cursors was made by another process")

    async def _create_erasure_key(self) -> None:
        if await self.raw["settings"].find_one({"_id": ERASURE_KEY_ID}, {"_id": 1}) is None:
            try:
                await self.raw["settings"].insert_one(
                    {"_id": ERASURE_KEY_ID, "key": secrets.token_bytes(ERASURE_KEY_BYTES)}
                )
            except DuplicateKeyError:
                log.debug("the key of erased contacts was made by another process")

    async def _create_form_of_outcomes(self, partitions: int) -> None:
        if await self.form_of_outcomes() is not None:
            return
        is_new = bool((await self._stored_settings()).get("outcomes_in_events"))
        form: OutcomesDocument = {
            "_id": OUTCOMES_ID,
            "in_events_from": UNIX_EPOCH if is_new else now() + OUTCOMES_GRACE,
            "reached": {str(partition): 0 for partition in range(partitions)},
            "migrated": is_new,
        }
        try:
            await self.raw["settings"].insert_one(form)
        except DuplicateKeyError:
            log.debug("the form of outcomes was set by another process")

    async def _create_partitions(self, partitions: int) -> None:
        epoch = (await self._stored_settings())["epoch"]
        present = {document["_id"] async for document in self.partitions.find({})}
        for partition in set(range(partitions)) - present:
            try:
                await self.partitions.insert_one(
                    {
                        "_id": partition,
                        "seq": 0,
                        "commits": 0,
                        "worker": "",
                        "epoch": epoch,
                        "parked": [],
                        "horizon": UNIX_EPOCH,
                    }
                )
            except DuplicateKeyError:
                log.debug("partition %d was created by another process", partition)
        # Those that an earlier release created: before anything could be parked, or had a horizon.
        for field, value in (("parked", []), ("horizon", UNIX_EPOCH)):
            await self.partitions.update_many({field: {"$exists": False}}, {"$set": {field: value}})


@asynccontextmanager
async def open_database(url: str, name: str) -> AsyncIterator[Database]:
    """A client for the running loop, closed at the end. Connects when it is first used."""
    try:
        client: AsyncMongoClient[Any] = AsyncMongoClient(
            url,
            serverSelectionTimeoutMS=SERVER_SELECTION_TIMEOUT_MS,
            timeoutMS=OPERATION_TIMEOUT_MS,
            maxPoolSize=MAX_CONNECTIONS,
        )
    except PyMongoError as error:
        # Its message may hold a part of the address, and so of the password.
        raise DatabaseUnavailable(f"MONGODB_URL: cannot be used ({type(error).__name__})") from None
    try:
        yield Database(client, name)
    finally:
        await client.close()
