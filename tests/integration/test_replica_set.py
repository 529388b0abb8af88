"""The replica set that tests play at the wire: the driver takes it for one, and meets what one does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pymongo import AsyncMongoClient, monitoring
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import AutoReconnect, CursorNotFound, OperationFailure, WTimeoutError
from pymongo.read_concern import ReadConcern
from pymongo.topology_description import TOPOLOGY_TYPE
from pymongo.write_concern import WriteConcern

from callers import eventually
from replica_set.draws import Draws, Fault, kind_of
from replica_set.proxy import ReplicaSet, replica_set
from replica_set.wire import Document

MAJORITY = WriteConcern("majority", j=True)


class Script(Draws):
    """The next command of each kind meets the fault that is written here, once."""

    def __init__(self, **faults: str) -> None:
        super().__init__("", {})
        self.faults = faults

    def draw(self, command: Document) -> Fault | None:
        """The fault that is written for it."""
        name = self.faults.pop(kind_of(command), None)
        return Fault(name, 0.1) if name else None


class Seen(monitoring.CommandListener):
    """The names of the commands that were sent."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.names.append(event.command_name)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


@asynccontextmanager
async def using(url: str, name: str) -> AsyncIterator[tuple[ReplicaSet, AsyncCollection[Document], Seen]]:
    seen = Seen()
    async with (
        replica_set(url) as members,
        AsyncMongoClient[Document](
            members.url, event_listeners=[seen], timeoutMS=8000, serverSelectionTimeoutMS=5000
        ) as client,
    ):
        database = client.get_database(name, write_concern=MAJORITY, read_concern=ReadConcern("majority"))
        await database.create_collection("c")
        yield members, database["c"], seen


async def add_in_transaction(collection: AsyncCollection[Document], number: int) -> None:
    async def add(session: AsyncClientSession) -> None:
        await collection.insert_one({"_id": number}, session=session)
        await collection.update_one({"_id": "sum"}, {"$inc": {"n": 1}}, upsert=True, session=session)

    async with collection.database.client.start_session() as session:
        await session.with_transaction(add, write_concern=MAJORITY)


async def test_the_driver_takes_it_for_a_replica_set_of_three(mongodb_url: str, database_name: str) -> None:
    async with using(mongodb_url, database_name) as (members, collection, _):
        description = collection.database.client.topology_description
        assert description.topology_type == TOPOLOGY_TYPE.ReplicaSetWithPrimary
        primary = members.members.primary
        assert primary is not None

        async def all_known() -> bool:
            known = collection.database.client.topology_description
            kinds = sorted(server.server_type_name for server in known.server_descriptions().values())
            return kinds == ["RSPrimary", "RSSecondary", "RSSecondary"]

        await eventually(all_known, seconds=30)


async def test_a_write_waits_for_an_election_and_goes_to_the_new_primary(
    mongodb_url: str, database_name: str
) -> None:
    async with using(mongodb_url, database_name) as (members, collection, _):
        former = members.members.primary
        await members.step_down()
        write = asyncio.create_task(collection.insert_one({"_id": 1}))
        await asyncio.sleep(0.2)
        assert not write.done()
        members.elect()
        await write
        assert members.members.primary is not former
        assert await collection.count_documents({}) == 1


async def test_a_transaction_does_not_survive_its_primary(mongodb_url: str, database_name: str) -> None:
    async with using(mongodb_url, database_name) as (members, collection, _):
        client = collection.database.client
        async with client.start_session() as session:
            await session.start_transaction()
            await collection.insert_one({"_id": 1}, session=session)
            await members.step_down()
            members.elect()
            with pytest.raises((OperationFailure, AutoReconnect)) as raised:
                await collection.insert_one({"_id": 2}, session=session)
            assert raised.value.has_error_label("TransientTransactionError")
            await session.abort_transaction()
        assert await collection.count_documents({}) == 0


COMMITS = {
    "cut before sending": 2,
    "cut after sending": 2,
    "cut in the reply": 2,
    "transient": 2,
    "write concern times out": 2,
    "written, then rolled back": 3,
    "written, primary stepped down": 2,
    "interrupted": 3,
}
"""Fault → how often a commit is sent until the transaction is committed once."""


@pytest.mark.parametrize("fault", COMMITS)
async def test_a_commit_takes_effect_once_whatever_is_answered(
    fault: str, mongodb_url: str, database_name: str
) -> None:
    async with using(mongodb_url, database_name) as (members, collection, seen):
        members.draws = Script(commit=fault)
        await add_in_transaction(collection, 1)
        assert await collection.find_one({"_id": "sum"}) == {"_id": "sum", "n": 1}
        assert seen.names.count("commitTransaction") == COMMITS[fault]


@pytest.mark.parametrize(
    "fault", ["write conflict", "interrupted", "snapshot gone", "gone", "cut after sending"]
)
async def test_a_transaction_is_run_again_when_a_statement_fails(
    fault: str, mongodb_url: str, database_name: str
) -> None:
    async with using(mongodb_url, database_name) as (members, collection, seen):
        members.draws = Script(statement=fault)
        await add_in_transaction(collection, 1)
        assert await collection.find_one({"_id": "sum"}) == {"_id": "sum", "n": 1}
        assert seen.names.count("insert") == 2


@pytest.mark.parametrize(
    "fault",
    [
        "cut before sending",
        "cut after sending",
        "cut in the reply",
        "not primary",
        "interrupted",
        "stepped down",
        "written, then rolled back",
        "written, primary stepped down",
    ],
)
async def test_a_retryable_write_takes_effect_once(fault: str, mongodb_url: str, database_name: str) -> None:
    async with using(mongodb_url, database_name) as (members, collection, seen):
        members.draws = Script(write=fault)
        await collection.update_one({"_id": 1}, {"$inc": {"n": 1}}, upsert=True)
        assert seen.names.count("update") == 2
        assert await collection.find_one({"_id": 1}) == {"_id": 1, "n": 1}


async def test_a_write_concern_that_times_out_is_told_and_not_repeated(
    mongodb_url: str, database_name: str
) -> None:
    async with using(mongodb_url, database_name) as (members, collection, seen):
        members.draws = Script(write="write concern times out")
        with pytest.raises(WTimeoutError):
            await collection.insert_one({"_id": 1})
        assert seen.names.count("insert") == 1
        assert await collection.count_documents({}) == 1


async def test_a_killed_cursor_is_not_found(mongodb_url: str, database_name: str) -> None:
    async with using(mongodb_url, database_name) as (members, collection, _):
        await collection.insert_many([{"_id": number} for number in range(10)])
        members.draws = Script(cursor="cursor killed")
        with pytest.raises(CursorNotFound):
            await collection.find({}, batch_size=2).to_list()


async def test_a_primary_that_was_just_elected_answers_from_before_unless_asked_for_more(
    mongodb_url: str, database_name: str
) -> None:
    async with using(mongodb_url, database_name) as (members, collection, _):
        await collection.insert_one({"_id": 1})
        await members.remember(database_name)
        client: AsyncMongoClient[Any] = collection.database.client
        async with client.start_session(causal_consistency=True) as session:
            await collection.insert_one({"_id": 2}, session=session)
            await members.step_down()
            members.elect(stale=True)
            assert len(await collection.find({}).to_list()) == 1
            assert len(await collection.find({}, session=session).to_list()) == 2
        async with client.start_session(causal_consistency=False) as session:
            surely = collection.with_options(read_concern=ReadConcern("linearizable"))
            assert len(await surely.find({}, session=session).to_list()) == 2


async def test_drivers_leave_a_primary_that_lost_its_majority(mongodb_url: str, database_name: str) -> None:
    async with using(mongodb_url, database_name) as (members, collection, _):
        former = await members.isolate()
        write = asyncio.create_task(collection.insert_one({"_id": 1}))
        await asyncio.sleep(0.2)
        assert not write.done()
        members.elect()
        members.rejoin(former)
        await write
        assert await collection.count_documents({}) == 1
