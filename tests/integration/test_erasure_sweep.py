"""An erasure is carried out by whoever owns the partitions: to its end, once, and wherever it is
interrupted.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from builders import create_command, update_command
from owners import Owner
from tracking.upkeep.checker import find_faults
from tracking.upkeep.record_reader import read_records
from tracking_order_state.adapters import archived_events, erasure_store
from tracking_order_state.adapters.erasure_store import erasure_key
from tracking_order_state.adapters.open_erasures import OpenErasures
from tracking_order_state.adapters.search_index import SearchIndexer
from tracking_order_state.adapters.store import Store
from tracking_order_state.domain import erasure as rules
from tracking_order_state.domain.decisions import Decisions
from tracking_order_state.domain.erasure import Erasure
from tracking_order_state.domain.parking import park
from tracking_order_state.domain.partition import PartitionPosition, Slot
from tracking_order_state.errors import Fenced
from tracking_order_state.processing.erasure_sweep import ErasureSweep
from tracking_shared.contracts.commands import AnyCommand, Customer
from tracking_shared.contracts.documents import ErasureDocument
from tracking_shared.contracts.timestamps import now
from tracking_shared.storage import erasures as stored_erasures
from tracking_shared.storage.audit_trail import Actor, AuditTrail
from tracking_shared.storage.database import Database, DatabaseUnavailable, open_database
from tracking_shared.storage.erasures import erased_among, find_erasure, request_erasure

NAME, CONTACT = "Zaphod Beeblebrox", "+49 30 987654"
PERSON = Customer(name=NAME, contact_ref=CONTACT)
ACTOR = Actor("ops", "command-line")


class Died(BaseException):
    """The process is gone."""


class DyingStore(Store):
    """One whose process dies at its n-th commit: before it, or right after."""

    commits_left = 10**9
    dies_before = True

    async def commit(
        self, positions: Sequence[PartitionPosition], decisions: Sequence[Decisions]
    ) -> list[PartitionPosition]:
        self.commits_left -= 1
        if self.commits_left == 0 and self.dies_before:
            raise Died
        after = await super().commit(positions, decisions)
        if self.commits_left == 0:
            raise Died
        return after


async def park_at(owner: Owner, command: AnyCommand) -> None:
    """Has a command wait for an operator."""
    position = owner.partition.position
    assert position is not None
    parked = park(command, None, position.parked_orders, Slot(0, position.seq, now()), "E")
    [owner.partition.position] = await owner.store.commit([position], [parked])


class Letters:
    """The queue of dead letters."""

    def __init__(self) -> None:
        self.erased: list[str] = []

    async def erase(self, erasure: Erasure) -> None:
        self.erased.append(erasure.id)


def sweep_of(owner: Owner, database: Database) -> ErasureSweep:
    return ErasureSweep(owner, OpenErasures(database), Letters())  # type: ignore[arg-type]


@pytest.fixture
async def database(mongodb_url: str, database_name: str) -> AsyncIterator[Database]:
    """One with a partition."""
    async with open_database(mongodb_url, database_name) as database:
        await database.prepare(1)
        yield database


async def requested(database: Database, merchant_id: str | None = None) -> ErasureDocument:
    return await request_erasure(database, AuditTrail(database), ACTOR, CONTACT, merchant_id)


async def result(database: Database, erasure: ErasureDocument) -> tuple[int | None, int | None]:
    found = await find_erasure(database, erasure["_id"])
    assert found is not None
    return found.get("orders"), found.get("events")


async def everything(database: Database) -> str:
    """All that the database holds, as text."""
    names = await database.raw.list_collection_names()
    return repr([await database.raw[name].find({}).to_list() for name in names])


async def assert_forgotten(database: Database) -> None:
    held = await everything(database)
    assert NAME not in held
    assert CONTACT not in held
    assert "beeblebrox" not in held
    assert find_faults(await read_records(database)) == []


async def test_orders_events_parked_commands_and_the_search_lose_the_customer(database: Database) -> None:
    owner = Owner(database)
    ids = [uuid4().hex for _ in range(3)]
    other = create_command(uuid4().hex)
    await owner.decide(other, *(create_command(order_id, customer=PERSON) for order_id in ids))
    await owner.decide(*(update_command(order_id) for order_id in ids))
    await owner.decide(update_command(ids[0], "in_transit"), update_command(ids[1], "cancelled"))
    await park_at(owner, create_command("parked", customer=PERSON))
    indexer = SearchIndexer(database)
    await indexer.follow()
    before = {order["_id"]: order async for order in database.orders.find({})}
    erasure = await requested(database)
    await sweep_of(owner, database).look()

    assert await result(database, erasure) == (3, 8)
    await assert_forgotten(database)
    [parked] = await database.parked.find({}).to_list()
    assert '"customer":null' in parked["command"]
    async for order in database.orders.find({}):
        was = before[order["_id"]]
        if order["_id"] == other.order_id:
            assert order == was
            continue
        kept = ("status", "active", "created_at", "metadata", "partition", "merchant_id")
        assert [order[name] for name in kept] == [was[name] for name in kept]  # type: ignore[literal-required]
        assert (order["version"], order["customer"]) == (was["version"] + 1, None)
        assert order["erased_at"] == erasure["accepted_at"]
    entry = await database.order_search.find_one({"_id": ids[0]})
    assert entry is not None
    assert entry["words"][:1] == [ids[0]]
    await indexer.follow()
    await assert_forgotten(database)
    # The cache is in step, and so is whoever reads everything anew.
    assert await owner.decide(update_command(ids[0], "delivered")) == [(None, 5)]
    assert await Owner(database).decide(update_command(ids[2], "in_transit")) == [(None, 4)]
    await assert_forgotten(database)


async def test_to_repeat_it_finds_nothing_and_changes_nothing(database: Database) -> None:
    owner = Owner(database)
    await owner.decide(create_command(uuid4().hex, customer=PERSON))
    first = await requested(database)
    await sweep_of(owner, database).look()
    before = await database.order_events.find({}).to_list()
    second = await requested(database)
    await sweep_of(owner, database).look()
    assert (await result(database, first), await result(database, second)) == ((1, 1), (0, 0))
    assert await database.order_events.find({}).to_list() == before


async def test_only_orders_of_the_merchant_are_erased(database: Database) -> None:
    owner = Owner(database)
    await owner.decide(
        create_command("o-1", "m-1", customer=PERSON), create_command("o-2", "m-2", customer=PERSON)
    )
    erasure = await requested(database, "m-1")
    await sweep_of(owner, database).look()
    assert await result(database, erasure) == (1, 1)
    kept = await database.orders.find_one({"_id": "o-2"})
    assert kept is not None
    assert kept["customer"] == PERSON.model_dump()
    assert find_faults(await read_records(database)) == []


async def test_who_comes_later_is_another_person_and_who_was_on_the_way_is_not(database: Database) -> None:
    owner = Owner(database)
    await owner.decide(create_command(uuid4().hex))
    erasure = await requested(database)
    # Before the owner knows of it: it is found, though it was recorded after the erasure was accepted.
    later = now() + timedelta(seconds=1)
    await owner.decide(
        create_command("unaware", customer=PERSON),
        create_command("new", customer=PERSON, received_at=later),
    )
    await sweep_of(owner, database).look()
    assert await result(database, erasure) == (1, 1)
    # After it is done: by this owner, and by one that has only the digest.
    await owner.decide(create_command("queued", customer=PERSON))
    await Owner(database).decide(create_command("queued-on", customer=PERSON))
    orders = {order["_id"]: order async for order in database.orders.find({})}
    assert orders["new"]["customer"] == PERSON.model_dump()
    for name in ("unaware", "queued", "queued-on"):
        assert orders[name]["customer"] is None
        assert orders[name]["erased_at"] == erasure["accepted_at"]
    assert [orders[name]["version"] for name in ("unaware", "queued", "queued-on")] == [2, 1, 1]
    assert find_faults(await read_records(database)) == []


async def test_a_new_owner_learns_all_erasures_however_many_there_are(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure_store, "PAGE_ERASURES", 3)
    owner = Owner(database)
    await owner.decide(create_command(uuid4().hex))
    contacts = [f"crm-{uuid4().hex}" for _ in range(6)]
    persons = [Customer(name=NAME, contact_ref=contact_ref) for contact_ref in contacts]
    for contact_ref in contacts[:4]:
        await request_erasure(database, AuditTrail(database), ACTOR, contact_ref, None)
    await sweep_of(owner, database).look()
    # Two more than it has carried out, which make the last page a full one.
    for contact_ref in contacts[4:]:
        await request_erasure(database, AuditTrail(database), ACTOR, contact_ref, None)
    await Owner(database).decide(*(create_command(uuid4().hex, customer=person) for person in persons))
    assert await database.orders.count_documents({"customer": None}) == len(persons)
    assert NAME not in await everything(database)


async def test_events_of_archived_orders_lose_the_customer_however_many_requests_there_are(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archived_events, "PAGE_REQUESTS", 2)
    monkeypatch.setattr(stored_erasures, "PAGE_ERASURES", 1)
    ids = [uuid4().hex for _ in range(5)]
    owner = Owner(database)
    await owner.decide(*(create_command(order_id, customer=PERSON) for order_id in ids))
    events = await database.order_events.find({}).to_list()
    await archive(database, ids)
    await request_erasure(database, AuditTrail(database), ACTOR, "crm-of-another", None)
    erasure = await requested(database)
    assert (await erased_among(database, events)).erased_at(CONTACT, "m-1", events[0]["created_at"])
    await sweep_of(owner, database).look()
    assert await result(database, erasure) == (0, 0)
    assert await database.order_events.count_documents({"customer": None}) == len(ids)
    assert NAME not in await everything(database)


async def archive(database: Database, ids: Sequence[str]) -> None:
    """As it is after the commit of the owner and before the events are removed; a request for each order."""
    for number, order_id in enumerate(ids):
        request: Any = {"_id": f"part/{number}", "part": "part", "partition": 0}
        await database.archivings.insert_one(request | {"orders": [{"order_id": order_id}]})
        archived: Any = {"_id": order_id, "merchant_id": "m-1", "partition": 0, "version": 1, "part": "part"}
        await database.archived_orders.insert_one(archived | {"archived_at": now()})
    await database.orders.delete_many({})


async def test_an_order_that_is_there_is_erased_though_the_clock_of_its_owner_is_ahead(
    database: Database,
) -> None:
    later = now() + timedelta(minutes=5)
    owner = Owner(database, clock_ahead=timedelta(minutes=5))
    await owner.decide(create_command(uuid4().hex, customer=PERSON, received_at=later))
    erasure = await requested(database)
    await sweep_of(owner, database).look()
    assert await result(database, erasure) == (1, 1)
    await assert_forgotten(database)


@pytest.mark.parametrize("dies_before", [True, False])
async def test_wherever_it_is_interrupted_another_owner_goes_on_and_counts_right(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    dies_before: bool,
) -> None:
    monkeypatch.setattr(rules, "MAX_ERASED_EVENTS", 4)
    owner = Owner(database)
    ids = [uuid4().hex for _ in range(5)]
    await owner.decide(*(create_command(order_id, customer=PERSON) for order_id in ids))
    long = "long-order"
    await owner.decide(
        create_command(long, customer=PERSON),
        update_command(long),
        *(update_command(long, "in_transit") for _ in range(11)),
    )
    erasure = await requested(database)
    deaths = 0
    while True:
        # Each one comes one commit further than the one before at most, and dies there.
        store = DyingStore(database)
        store.commits_left, store.dies_before = 1 + deaths % 2, dies_before
        owner = Owner(database, store=store)
        await owner.processor.claim(owner.partition)
        try:
            await sweep_of(owner, database).look()
        except Died:
            deaths += 1
            assert find_faults(await read_records(database)) == []
            assert deaths < 100
        else:
            break
    assert deaths >= 3
    assert await result(database, erasure) == (6, 18)
    await assert_forgotten(database)
    versions = [order["version"] async for order in database.orders.find({})]
    assert sorted(versions) == [2, 2, 2, 2, 2, 14]


async def test_an_owner_that_was_frozen_does_not_say_that_it_is_done(database: Database) -> None:
    old, new = Owner(database), Owner(database)
    await old.decide(create_command("other"))
    await new.processor.claim(new.partition)
    erasure = await requested(database)
    [open_one] = await OpenErasures(database).pending()
    with pytest.raises(Fenced):
        await old.processor.steps.finish_erasure(old.partition, open_one)
    # As it would have been lost: by an owner that has not heard of the erasure.
    await new.decide(create_command("o-1", customer=PERSON))
    await sweep_of(old, database).look()
    assert await result(database, erasure) == (None, None)
    await sweep_of(new, database).look()
    assert await result(database, erasure) == (1, 1)
    await assert_forgotten(database)


async def test_the_indexer_puts_no_erased_customer_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Owner(database)
    await owner.decide(create_command("o-1", customer=PERSON))
    indexer = SearchIndexer(database)
    write = indexer._write

    async def erased_meanwhile(*args: Any) -> None:
        await requested(database)
        await sweep_of(owner, database).look()
        await write(*args)

    monkeypatch.setattr(indexer, "_write", erased_meanwhile)
    assert await indexer.follow() == 0  # what it has read is out of date
    await assert_forgotten(database)
    monkeypatch.setattr(indexer, "_write", write)
    assert await indexer.follow() == 2
    await assert_forgotten(database)


async def test_the_audit_trail_tells_who_asked_and_not_for_whom(database: Database) -> None:
    owner = Owner(database)
    await owner.decide(create_command(customer=PERSON))
    erasure = await requested(database, "m-1")
    await sweep_of(owner, database).look()
    [entry] = await database.audit.find({}).to_list()
    assert (entry["action"], entry["subject"], entry["actor"]["sub"], entry["details"]) == (
        "customer.erased",
        erasure["_id"],
        "ops",
        {"merchant_id": "m-1"},
    )
    stored = await find_erasure(database, erasure["_id"])
    assert stored is not None
    assert stored.get("contact_key") == rules.contact_key(await erasure_key(database), CONTACT)


async def test_without_its_audit_entry_nothing_is_accepted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = AuditTrail(database)

    async def fail(*_: Any) -> None:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(audit, "record", fail)
    with pytest.raises(DatabaseUnavailable):
        await request_erasure(database, audit, ACTOR, CONTACT, None)
    assert await database.erasures.find({}).to_list() == []
