"""Reads what an installation holds, for the checker: all of it at once, or slice by slice."""

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection

from shared.broker import AccessRefused, connect
from shared.database import UPDATES_TTL_SECONDS, Database, driver_errors
from shared.documents import EventDocument, PartitionDocument, update_key
from shared.key_order import KeyOrder
from shared.key_pages import PAGE_DOCUMENTS, Document, read_pages
from shared.timestamps import now
from shared.topology import DEAD_QUEUE, partition_queue_name
from shared.workflow import Workflow
from tracking.checker import Inspection, Records, outcome_faults
from tracking.second_look import SecondLook, Verdict

SLICE_EVENTS = 2_000
"""Read at once: some 2 KiB each, 13 KiB at most."""

SLICE_UPDATES = 5_000
"""Outcomes of which only three fields are read at once."""

PAGE_EVENTS = 20_000
"""Events of one query. Twice the usual number: the embedded database looks at all that follow for each."""

_BY_ID = KeyOrder(("_id",))
_BY_ORDER = KeyOrder(("order_id", "version"))

MAX_FAULTS = 50
"""Kept in words; the others are only counted."""

TTL_MARGIN = timedelta(hours=1)
"""Outcomes this near to their end are not asked for: clocks differ, and a check takes its time."""


class NothingToCheck(Exception):
    """The database holds no installation."""


@dataclass(slots=True)
class Findings:
    """What was looked at, and what was found."""

    orders: int = 0
    events: int = 0
    outcomes: int = 0
    partitions: int = 0
    parked: int = 0
    """Updates that wait for an operator."""
    applied_meanwhile: int = 0
    """Updates that were applied while the records were read."""
    unsettled: int = 0
    """Orders, updates and lines that changed at every look at them, and were not judged."""
    faults: int = 0
    examples: list[str] = field(default_factory=list)
    """The first `MAX_FAULTS` of them, in words."""

    def add_faults(self, faults: Iterable[str]) -> None:
        """Counts them, and keeps those for which there is room."""
        for fault in faults:
            self.faults += 1
            if len(self.examples) < MAX_FAULTS:
                self.examples.append(fault)

    def add(self, verdict: Verdict) -> None:
        """Takes in what came of looking again."""
        self.add_faults(verdict.faults)
        self.unsettled += verdict.unsettled


OnLooked = Callable[[int], None]
"""Told how many more documents were looked at: each event once, and each outcome once."""


async def read_records(database: Database) -> Records:
    """Reads all of it into memory: some 2 KiB an event."""
    with driver_errors():
        return Records(
            orders=await _all(database.orders),
            events=await _all(database.order_events),
            updates=await _all(database.updates),
            partitions=await _all(database.partitions),
            parked=await _all(database.parked),
        )


async def _all(
    collection: AsyncCollection[Document], conditions: dict[str, Any] | None = None
) -> list[Document]:
    pages = read_pages(collection, conditions or {}, _BY_ID, batch=PAGE_DOCUMENTS)
    return [document async for page in pages for document in page]


async def read_partitions(database: Database) -> list[PartitionDocument]:
    """Where each partition stands.

    Raises:
        DatabaseUnavailable: the database does not answer.
        NothingToCheck: it was never set up.
    """
    with driver_errors():
        partitions = await database.partitions.find({}).to_list()
    if not partitions:
        raise NothingToCheck(f"the database {database.raw.name!r} holds no installation")
    return partitions


async def count_outcomes(database: Database) -> int:
    """About how many outcomes are stored: as the database's own books say, without looking at each.

    Raises:
        DatabaseUnavailable: the database does not answer.
    """
    with driver_errors():
        return await database.updates.estimated_document_count()


async def examine(
    database: Database,
    partitions: list[PartitionDocument],
    workflow: Workflow,
    on_looked: OnLooked = lambda _: None,
    *,
    page: int = PAGE_EVENTS,
    findings: Findings | None = None,
) -> Findings:
    """Looks for faults in everything that the database holds, beginning at `partitions`, as just read.

    It reads in slices, so its memory does not grow with the records, but for an order whose own history
    is longer than a slice. The slices are read one after another while orders move: what seems wrong is
    looked at again, and is a fault if it did not move meanwhile. All events are looked at that were recorded
    when `partitions` were read; of later ones, `Findings.applied_meanwhile`, those that lie ahead.
    At most `page` documents are read by one query, so the time that one may take is enough for any number.
    `findings`, where given, are filled as it goes on, for whoever wants to know how far it got.

    Raises:
        DatabaseUnavailable: the database does not answer.
    """
    findings = findings if findings is not None else Findings()
    findings.partitions = len(partitions)
    outcomes_since = now() - timedelta(seconds=UPDATES_TTL_SECONDS) + TTL_MARGIN
    inspection = Inspection(partitions, workflow, outcomes_since)
    again = SecondLook(database, partitions, workflow, outcomes_since)
    with driver_errors():
        async for records in _orders_in_slices(database, page):
            findings.orders += len(records.orders)
            findings.events += len(records.events)
            if any([*inspection.order_faults(records)]):
                findings.add(await again.at_orders(records))
            on_looked(len(records.events))
        later = await read_partitions(database)
        findings.add_faults(inspection.log_faults(later))
        await _examine_parked(database, page, inspection, again, findings)
        async for records in _outcomes_in_slices(database, page):
            findings.outcomes += len(records.updates)
            if any(outcome_faults(records.updates, records.events)):
                findings.add(await again.at_outcomes(records))
            on_looked(len(records.updates))
    findings.applied_meanwhile = applied_so_far(await read_partitions(database)) - applied_so_far(partitions)
    return findings


async def _examine_parked(
    database: Database, page: int, inspection: Inspection, again: SecondLook, findings: Findings
) -> None:
    async for records in _parked_in_slices(database, page):
        findings.parked += len(records.parked)
        if any([*inspection.parked_faults(records)]):
            findings.add(await again.at_parked(records))
    findings.add(await again.at_lines(list(inspection.mismatched_lines())))


def applied_so_far(partitions: list[PartitionDocument]) -> int:
    """The events that were recorded, by the positions of the partitions."""
    return sum(partition["seq"] for partition in partitions)


async def queue_lengths(amqp_url: str, partitions: int) -> dict[str, int]:
    """Messages ready in each partition's queue and in the dead-letter queue, as far as the user may ask.

    Raises:
        BrokerUnavailable: the broker does not answer, or has no such queues.
    """
    lengths: dict[str, int] = {}
    names = [*map(partition_queue_name, range(partitions)), DEAD_QUEUE]
    async with connect(amqp_url, "tracking") as connection:
        for name in names:
            with suppress(AccessRefused):
                lengths[name] = await connection.depth(name)
    return lengths


async def _orders_in_slices(database: Database, page: int) -> AsyncGenerator[Records]:
    """Whole orders, by their ids: their states, all their events, and the outcomes of these."""
    after = ""
    async for events in _whole_histories(database, page):
        through = events[-1]["order_id"]
        yield await _slice(database, {"$gt": after, "$lte": through}, events)
        after = through
    yield await _slice(database, {"$gt": after}, [])


async def _slice(database: Database, order_ids: dict[str, str], events: list[EventDocument]) -> Records:
    keys = [update_key(event["order_id"], event["update_id"]) for event in events]
    return Records(
        orders=await _all(database.orders, {"_id": order_ids}),
        events=events,
        updates=await database.updates.find({"_id": {"$in": keys}}).to_list() if keys else [],
    )


async def _whole_histories(database: Database, page: int) -> AsyncGenerator[list[EventDocument]]:
    """Events by order id, cut between two orders."""
    events: list[EventDocument] = []
    size = min(SLICE_EVENTS, page)
    found = read_pages(database.order_events, {}, _BY_ORDER, batch=size, page=page)
    async for batch in found:
        for event in batch:
            if len(events) >= size and event["order_id"] != events[-1]["order_id"]:
                yield events
                events = []
            events.append(event)
    if events:
        yield events


async def _outcomes_in_slices(database: Database, page: int) -> AsyncGenerator[Records]:
    """Outcomes, and the events that they point to; of both only what `outcome_faults` looks at."""
    fields = {"outcome": 1, "position": 1}
    async for updates in read_pages(
        database.updates, {}, _BY_ID, batch=SLICE_UPDATES, page=page, fields=fields
    ):
        yield await _with_events(database, updates)


async def _parked_in_slices(database: Database, page: int) -> AsyncGenerator[Records]:
    """Parked commands without their content, and the outcomes that there should not be."""
    fields = {"order_id": 1, "partition": 1, "place": 1}
    async for parked in read_pages(
        database.parked, {}, _BY_ID, batch=SLICE_UPDATES, page=page, fields=fields
    ):
        yield await _with_outcomes(database, parked)


async def _with_outcomes(database: Database, parked: list[Any]) -> Records:
    keys = [command["_id"] for command in parked]
    return Records(parked=parked, updates=await database.updates.find({"_id": {"$in": keys}}).to_list())


async def _with_events(database: Database, updates: list[Any]) -> Records:
    positions = [update["position"] for update in updates if update["outcome"] == "applied"]
    fields = {"order_id": 1, "update_id": 1}
    events = await database.order_events.find({"_id": {"$in": positions}}, fields).to_list()
    return Records(updates=updates, events=events)
