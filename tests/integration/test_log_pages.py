"""Pages of the log are asked for by their keys: for a range of keys the embedded database reads all of it."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from tracking_notifier.log.event_log import EventLog
from tracking_shared.contracts.documents import position_keys
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.storage.database import Database, DatabaseUnavailable
from tracking_webhooks.adapters.log_reader import LogReader

PARTITIONS = 2


class Asked(CommandListener):
    """The conditions of the reads of the log."""

    def __init__(self) -> None:
        self.conditions: list[Mapping[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command.get("find") == "order_events":
            self.conditions.append(event.command["filter"])
        elif event.command.get("aggregate") == "order_events":
            self.conditions.append(event.command["pipeline"][0]["$match"])

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
async def database(mongodb_url: str, database_name: str, asked: Asked) -> AsyncIterator[Database]:
    async with AsyncMongoClient[Any](mongodb_url, event_listeners=[asked]) as client:
        database = Database(client, database_name)
        await database.prepare(PARTITIONS)
        yield database
        await client.drop_database(database_name)


async def test_webhooks_read_pages_by_keys(database: Database, asked: Asked) -> None:
    reader = LogReader(database, PARTITIONS)
    with pytest.raises(DatabaseUnavailable):  # the log is empty
        await reader.read_new(1, 3, 6)
    assert await reader.read_matching(1, 3, 9, [], 2) == ([], 5)
    new = {"_id": {"$in": position_keys(1, 4, 6)}}
    assert asked.conditions == [new, new, {"_id": {"$in": position_keys(1, 4, 5)}}]


async def test_an_event_stream_reads_what_it_has_missed_by_keys(database: Database, asked: Asked) -> None:
    log = EventLog(database, DEFAULT_WORKFLOW, PARTITIONS)
    with pytest.raises(DatabaseUnavailable):
        await log.read_page(1, 3, 6)
    assert {"_id": {"$in": position_keys(1, 4, 6)}} in asked.conditions
    assert all("$in" in condition["_id"] for condition in asked.conditions)
