"""What has been read by recorded time stays so: nothing recorded before `as_of` appears later."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import pytest
from aiohttp import ClientSession

from callers import Caller, eventually, token
from fixtures import PARTITIONS, StartService
from listeners import examine
from statements.recording import with_recording
from tracking.devstack.service_process import PORT_VARIABLES, ServiceProcess
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.timestamps import format_time, now
from tracking_shared.messaging.connection import connect
from tracking_shared.messaging.topology import DEAD_QUEUE, partition_queue_name
from tracking_shared.storage.database import open_database
from traffic import Traffic, random_lives, traffic

HERE = str(Path(__file__).parent.parent)
REPORTS_PER_SECOND = 120
REPLICAS = 3
SLOW_COMMITS_SECONDS = 0.2
PAUSES_SECONDS = (0.5, 3.0)
"""The second is longer than the heartbeats of the broker allow: another one takes over."""

PROMISED_SECONDS = 2
BUSY_SECONDS = 10
"""The promise on a machine that has other things to do for moments."""

FULL_PAGE = "500"

Document = dict[str, Any]


@pytest.fixture
def environment(service_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Frozen processes are noticed soon, partitions change hands often, and the faulty module can start."""
    monkeypatch.setitem(PORT_VARIABLES, "faulty_order_state", "ORDER_STATE_PORT")
    service_environment["AMQP_URL"] += "?heartbeat=1"
    service_environment |= {
        "PYTHONPATH": with_recording(HERE),
        "PARTITIONS": str(PARTITIONS),
        "REPLICA_COUNT": str(REPLICAS),
        "STANDBY_DELAY_SECONDS": "0.2",
        "REBALANCE_SECONDS": "1",
        "SLOW_COMMITS": str(SLOW_COMMITS_SECONDS),
    }
    return service_environment


@dataclass(frozen=True, slots=True)
class Listed:
    """One answer to a list by time: what was asked, and what was there."""

    field: str
    start: datetime
    as_of: datetime
    versions: dict[str, int]
    """Of the orders in it."""
    newest: datetime
    """The newest time in it. Who takes it for the end of what was read follows the old rule."""


class Query:
    """Asks query."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session

    async def get(self, path: str, **parameters: str) -> Document:
        """The answer, whose header and field agree on the horizon."""
        headers = {"Authorization": f"Bearer {token()}"}
        async with self._session.get(path, params=parameters, headers=headers) as response:
            document: Document = await response.json()
            assert response.status == 200, document
            assert document.get("as_of") == response.headers.get("As-Of")
        return document

    async def as_of(self) -> datetime:
        """The horizon now."""
        start = format_time(now() - timedelta(minutes=1))
        found = await self.get("/v1/orders", created_from=start, limit="1")
        return datetime.fromisoformat(found["as_of"])


@asynccontextmanager
async def asking(query: ServiceProcess) -> AsyncIterator[Query]:
    async with ClientSession(query.url) as session:
        yield Query(session)


@dataclass(slots=True)
class Readers:
    """Read by time as programs that copy orders elsewhere do, until told to stop."""

    query: Query
    listed: list[Listed] = field(default_factory=list)
    reports: list[tuple[str, str, Any]] = field(default_factory=list)
    stopped: bool = False

    async def follow(self, name: str) -> None:
        """Begins each list where the one before ended."""
        start = now() - timedelta(seconds=5)
        while not self.stopped:
            bounds = {f"{name}_from": format_time(start), "sort": f"{name}_at", "limit": FULL_PAGE}
            found = await self.query.get("/v1/orders", **bounds)
            assert found["next_cursor"] is None, "more than a page: this test wants an answer of one moment"
            times = [datetime.fromisoformat(order[f"{name}_at"]) for order in found["items"]]
            as_of = datetime.fromisoformat(found["as_of"])
            versions = {order["order_id"]: order["version"] for order in found["items"]}
            self.listed.append(Listed(name, start, as_of, versions, max(times, default=start)))
            start = max(start, as_of)
            await asyncio.sleep(0.05)  # the pace of a reader

    async def report(self) -> None:
        """Asks for a range that is wholly before `as_of`."""
        while not self.stopped:
            end = await self.query.as_of()
            bounds = {"from": format_time(end - timedelta(seconds=1)), "to": format_time(end)}
            rows = (await self.query.get("/v1/reports/status-counts", **bounds))["rows"]
            self.reports.append((bounds["from"], bounds["to"], rows))
            await asyncio.sleep(0.2)  # the pace of a reader

    async def changed_reports(self) -> list[tuple[str, str]]:
        """The ranges that are reported otherwise now."""
        return [
            (start, end)
            for start, end, rows in self.reports
            if (await self.query.get("/v1/reports/status-counts", **{"from": start, "to": end}))["rows"]
            != rows
        ]


def late(listed: Listed, end: datetime, events: list[EventDocument]) -> Iterator[str]:
    """Changes recorded before `end` that the list does not hold, and is asked to."""
    for event in events:
        if listed.field == "created" and event["version"] > 1:
            continue
        is_there = listed.versions.get(event["order_id"], 0) >= event["version"]
        if listed.start <= event["recorded_at"] < end and not is_there:
            yield f"{event['order_id']}:{event['version']}"


async def all_events(environment: dict[str, str]) -> list[EventDocument]:
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        return await database.order_events.find({}).to_list()


async def disturb(replicas: list[ServiceProcess], traffic: Traffic) -> None:
    """A short pause, one with a take-over, and a kill."""
    await traffic.goes_on()
    for replica, seconds in zip(replicas, PAUSES_SECONDS, strict=False):
        replica.pause()
        await asyncio.sleep(seconds)  # the disturbance itself
        replica.resume()
        await traffic.goes_on()
    await replicas[-1].kill()
    await traffic.goes_on()
    await replicas[-1].start()
    await traffic.goes_on()


@pytest.mark.parametrize("rounds", [1, pytest.param(4, marks=pytest.mark.slow)])
async def test_nothing_recorded_before_as_of_appears_later_whatever_happens_to_order_state(
    rounds: int, environment: dict[str, str], start_service: StartService
) -> None:
    replicas = [
        await start_service("faulty_order_state", REPLICA_ORDINAL=str(number)) for number in range(REPLICAS)
    ]
    ingest, query = await start_service("ingest"), await start_service("query")
    lives = random_lives(10_000, 5, Random())
    async with Caller([ingest.url]) as caller, asking(query) as asked:
        readers = Readers(asked)
        async with asyncio.TaskGroup() as group, traffic(caller, lives, REPORTS_PER_SECOND) as load:
            for reading in (readers.follow("created"), readers.follow("updated"), readers.report()):
                group.create_task(reading)
            for number in range(rounds):
                await disturb(replicas[number % REPLICAS :] + replicas[: number % REPLICAS], load)
            readers.stopped = True
        await examine(environment, caller.acknowledged)
        events = await all_events(environment)
        assert [each for listed in readers.listed for each in late(listed, listed.as_of, events)] == []
        assert await readers.changed_reports() == []
    # The same lists read by the old rule, up to the newest time that was seen: the test can tell.
    naive = [each for listed in readers.listed for each in late(listed, listed.newest, events)]
    assert naive
    ends = {listed.as_of for listed in readers.listed}
    assert len(ends) > 10
    assert len(readers.reports) > 5


async def test_where_nothing_is_sent_as_of_goes_on_also_after_a_take_over_and_stands_still_while_all_are_away(
    environment: dict[str, str], start_service: StartService
) -> None:
    environment |= {"SLOW_COMMITS": "0", "REBALANCE_SECONDS": "30"}
    replicas = [await start_service("order_state", REPLICA_ORDINAL=str(number)) for number in range(2)]
    query = await start_service("query")
    async with asking(query) as asked:

        async def is_current() -> bool:
            return now() - await asked.as_of() <= timedelta(seconds=PROMISED_SECONDS)

        await eventually(is_current)
        behind = [now() - await asked.as_of() for _ in range(300)]
        assert median(behind) <= timedelta(seconds=PROMISED_SECONDS)
        assert max(behind) <= timedelta(seconds=BUSY_SECONDS)

        for replica in replicas:
            replica.pause()
        await eventually(lambda: stands_still(asked))
        for replica in replicas:
            replica.resume()
        await eventually(is_current)

        await replicas[0].kill()
        killed_at = now()
        await eventually(lambda: later_than(asked, killed_at + timedelta(seconds=1)))

    async with connect(environment["AMQP_URL"], "test") as connection:
        assert [await connection.depth(partition_queue_name(number)) for number in range(PARTITIONS)] == [
            0 for _ in range(PARTITIONS)
        ]
        assert await connection.depth(DEAD_QUEUE) == 0


async def stands_still(asked: Query) -> bool:
    """Whether it is the same after the time in which it would have gone on."""
    before = await asked.as_of()
    await asyncio.sleep(PROMISED_SECONDS)
    return await asked.as_of() == before


async def later_than(asked: Query, time: datetime) -> datetime | None:
    found = await asked.as_of()
    return found if found > time else None
