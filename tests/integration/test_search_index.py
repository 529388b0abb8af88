"""The search index stays right, whatever the database answers and whoever comes late."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from query_stack import PARTITIONS, START, World

from replica_set.draws import Draws, Fault, kind_of
from replica_set.proxy import replica_set
from replica_set.wire import Document
from tracking_order_state.adapters.search_index import SearchIndexer
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.timestamps import now
from tracking_shared.storage.database import Database, DatabaseUnavailable, open_database

ORDER = "o-1"
MERCHANT = {"merchant_id": "m-1", "customer": {"name": "Ada", "contact_ref": "crm-1"}}


class Log:
    """The events of one order, recorded one after the other by drivers of these names."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._world = World()

    async def record(self, driver: str) -> EventDocument:
        event = self._world.apply(ORDER, "created", START, MERCHANT)
        event["source"]["id"] = driver
        await self.database.order_events.insert_one(event)
        await self.database.partitions.update_one(
            {"_id": event["partition"]}, {"$set": {"seq": event["seq"]}}
        )
        return event

    async def indexed(self) -> list[str]:
        """The words of the order in the index."""
        found = await self.database.order_search.find_one({"_id": ORDER})
        return found["words"] if found else []

    async def progress(self) -> int:
        found = await self.database.search_progress.find({"_id": {"$ne": "lease"}}).to_list()
        return sum(document["seq"] for document in found)


@pytest.fixture
async def recorded(mongodb_url: str, database_name: str) -> AsyncIterator[Log]:
    async with open_database(mongodb_url, database_name) as database:
        await database.prepare(PARTITIONS)
        yield Log(database)


class Late(SearchIndexer):
    """Stops before it writes, until it is told to go on."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()

    async def _write(self, *arguments: object) -> None:
        self.reached.set()
        await self.go_on.wait()
        await super()._write(*arguments)  # type: ignore[arg-type]


class Unanswered(SearchIndexer):
    """Its next write is done and not answered."""

    unanswered = False

    async def _write(self, *arguments: object) -> None:
        await super()._write(*arguments)  # type: ignore[arg-type]
        if self.unanswered:
            self.unanswered = False
            raise DatabaseUnavailable("no answer")


async def end_lease(database: Database) -> None:
    """As if its holder had not been heard of for so long."""
    await database.search_progress.update_one(
        {"_id": "lease"}, {"$set": {"until": now() - timedelta(seconds=1)}}
    )


async def test_a_former_holder_that_comes_late_changes_nothing(recorded: Log) -> None:
    await recorded.record("dora")
    former, holder = Late(recorded.database), SearchIndexer(recorded.database)
    late = asyncio.create_task(former.follow())
    await former.reached.wait()
    await end_lease(recorded.database)
    await recorded.record("emil")
    assert await holder.follow() == 2
    former.go_on.set()
    await asyncio.wait([late])
    assert "emil" in await recorded.indexed()
    assert await recorded.progress() == 2
    await recorded.record("emil")
    assert await holder.follow() == 1
    assert "emil" in await recorded.indexed()


async def test_words_that_come_back_after_a_write_without_an_answer_are_written(recorded: Log) -> None:
    indexer = Unanswered(recorded.database)
    await recorded.record("dora")
    await indexer.follow()
    await recorded.record("emil")
    indexer.unanswered = True
    with pytest.raises(DatabaseUnavailable):
        await indexer.follow()
    await recorded.record("dora")
    await indexer.follow()
    assert "dora" in await recorded.indexed()


class FailingCommits(Draws):
    """No commit comes through."""

    def __init__(self) -> None:
        super().__init__("", {})
        self.commits = 0

    def draw(self, command: Document) -> Fault | None:
        """Cuts commits."""
        if kind_of(command) != "commit":
            return None
        self.commits += 1
        return Fault("transient", 0)


async def test_a_write_that_fails_again_and_again_ends_before_the_lease_does(
    recorded: Log, mongodb_url: str
) -> None:
    await recorded.record("dora")
    name = recorded.database.raw.name
    async with replica_set(mongodb_url) as members, open_database(members.url, name) as database:
        members.draws = FailingCommits()
        with pytest.raises(DatabaseUnavailable):
            await asyncio.wait_for(SearchIndexer(database).follow(), 15)


class Asked(CommandListener):
    """Notes what the database is asked."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.commands.append(event.command_name)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


async def test_while_nothing_changes_it_writes_nothing_and_asks_one_thing(
    recorded: Log, mongodb_url: str
) -> None:
    await recorded.record("dora")
    asked = Asked()
    async with AsyncMongoClient[Any](mongodb_url, event_listeners=[asked]) as client:
        indexer = SearchIndexer(Database(client, recorded.database.raw.name))
        assert await indexer.follow() == 1
        asked.commands.clear()
        assert await indexer.follow() == 0
        assert asked.commands == ["find"]
        await recorded.record("emil")
        assert await indexer.follow() == 1
    assert "emil" in await recorded.indexed()


async def test_an_index_that_was_removed_is_built_again_though_nothing_changes(recorded: Log) -> None:
    await recorded.record("dora")
    indexer = SearchIndexer(recorded.database, renewal_seconds=0)
    assert await indexer.follow() == 1
    await recorded.database.order_search.delete_many({})
    await recorded.database.search_progress.delete_many({})
    await indexer.follow()
    assert "dora" in await recorded.indexed()
