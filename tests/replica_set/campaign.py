"""One round of the campaign: real services behind the set, a steady load, faults, and then the judges."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from callers import Caller, eventually, token
from crowd import Crowd, crowd_of
from judge import history_of
from listeners import examine, listening
from positions import cursor_opener
from replica_set.draws import Draws
from replica_set.proxy import replica_set
from replica_set.readers import ListReader, LogReader, Readiness, new_session
from replica_set.trouble import trouble
from servers import Broker, new_environment
from tracking.devstack.service_process import ServiceProcess
from tracking.upkeep.record_reader import read_records
from tracking_shared.contracts.texts import words_of_event
from tracking_shared.storage.database import open_database
from traffic import random_lives, traffic
from viewers import EVERYBODY, Viewer

PARTITIONS = 4
LOAD_PER_SECOND = 60
PER_THOUSAND = {
    "commit": 200.0,
    "abort": 200.0,
    "statement": 60.0,
    "write": 150.0,
    "read": 100.0,
    "cursor": 300.0,
    "other": 100.0,
}
"""Faults of so many commands. A transaction has five statements and a commit."""

JUDGE_SECONDS = 60.0
"""From the end of the faults until everything is recorded, announced and indexed."""

MODULES = {"order_state-0": "order_state", "order_state-1": "order_state", "ingest": "ingest"}
READERS = {"notifier": "notifier", "query": "query"}


@dataclass(slots=True)
class Round:
    """What came of one."""

    seed: str
    seconds: float
    answered: int = 0
    events: int = 0
    drawn: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Faults by kind of command and name."""
    set_events: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    """Of query and `/readyz`."""
    longest_silence: float = 0.0
    """The longest time in which no report was answered, in seconds."""
    faults: list[str] = field(default_factory=list)
    """What the judges found."""

    @property
    def number_of_faults(self) -> int:
        """Commands that met one, and changes of the primary."""
        changes = sum(self.set_events[kind] for kind in ("step-down", "crash", "isolation"))
        return self.drawn.total() + changes


Start = Any
"""Makes a `ServiceProcess` of name, module, environment and folder; tests plant faults with it."""


def start_service(name: str, module: str, environment: Mapping[str, str], logs: Path) -> ServiceProcess:
    """A replica as it is shipped."""
    return ServiceProcess(module, environment=environment, logs=logs, name=name)


@asynccontextmanager
async def _services(
    environment: Mapping[str, str], folder: Path, start: Start, readers: bool
) -> AsyncIterator[dict[str, ServiceProcess]]:
    async with AsyncExitStack() as stack:
        services = {}
        for name, module in (MODULES | (READERS if readers else {})).items():
            ordinal = {"REPLICA_ORDINAL": name[-1], "REPLICA_COUNT": "2"} if name[-1].isdigit() else {}
            own = {**environment, **ordinal, "STANDBY_DELAY_SECONDS": "0.5", "REBALANCE_SECONDS": "5"}
            services[name] = start(name, module, own, folder)
            stack.push_async_callback(services[name].stop)
        await asyncio.gather(*(service.start() for service in services.values()))
        yield services


async def run_round(
    broker: Broker,
    database_url: str,
    folder: Path,
    *,
    seed: str,
    seconds: float,
    readers: bool = True,
    start: Start = start_service,
    per_thousand: Mapping[str, float] = PER_THOUSAND,
    only: frozenset[str] | None = None,
    judge_seconds: float = JUDGE_SECONDS,
) -> Round:
    """Takes the services through `seconds` of faults; `readers`: query and notifier take part."""
    random = Random(seed)
    result = Round(seed, seconds)
    environment = await new_environment(broker, database_url)
    environment["PARTITIONS"] = str(PARTITIONS)
    name = environment["MONGODB_DATABASE"]
    async with replica_set(database_url) as members:
        served = environment | {"MONGODB_URL": members.url}
        async with (
            _services(served, folder, start, readers) as services,
            Caller([services["ingest"].url], give_up_seconds=120) as caller,
            listening(environment["AMQP_URL"], PARTITIONS) as announced,
        ):
            watching = _Watching(services, environment, random) if readers else None
            async with watching.going_on() if watching else _nothing():
                lives = random_lives(int(seconds * LOAD_PER_SECOND), 8, random)
                async with traffic(caller, lives, LOAD_PER_SECOND) as load:
                    await load.goes_on(20)
                    members.draws = Draws(seed, dict(per_thousand), only)
                    draws = members.draws
                    silence = asyncio.create_task(_longest_silence(caller))
                    async with trouble(members, name, random):
                        await asyncio.sleep(seconds)
                    result.drawn = draws.drawn
                    load.stop()
                result.longest_silence = await _ended(silence)
                result.answered = len(caller.acknowledged)
                result.faults += await _judge(environment, caller, announced, judge_seconds)
                if watching:
                    result.faults += await watching.judge()
                    result.answers = watching.answers()
        result.set_events = members.events
    result.events = len(announced)
    return result


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


async def _longest_silence(caller: Caller) -> float:
    longest, answered, since = 0.0, len(caller.acknowledged), time.monotonic()
    with suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(0.05)
            if len(caller.acknowledged) > answered:
                longest = max(longest, time.monotonic() - since)
                answered, since = len(caller.acknowledged), time.monotonic()
    return longest


async def _ended(task: "asyncio.Task[float]") -> float:
    task.cancel()
    return await task


async def _judge(
    environment: dict[str, str], caller: Caller, announced: list[dict[str, Any]], seconds: float
) -> list[str]:
    try:
        await examine(environment, caller.acknowledged, announced, seconds=seconds)
        await eventually(lambda: _is_indexed(environment), seconds=seconds)
    except AssertionError as error:
        return [str(error)[:2000]]
    return []


async def _is_indexed(environment: dict[str, str]) -> bool:
    """Whether the search index says of each order what its newest event says."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        events = sorted((await read_records(database)).events, key=lambda event: event["version"])
        newest = {event["order_id"]: words_of_event(event) for event in events}
        found = await database.order_search.find({}).to_list()
    return newest == {document["_id"]: document["words"] for document in found}


class _Watching:
    """Those who read while everything fails."""

    def __init__(
        self, services: Mapping[str, ServiceProcess], environment: dict[str, str], random: Random
    ) -> None:
        self._services = services
        self._environment = environment
        self._random = random
        query = services["query"].url
        self._log, self._lists = LogReader(query), ListReader(query)
        self._readiness = Readiness(list(services.values()))
        self._session = new_session()
        self._crowd: Crowd | None = None

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        environment = self._environment
        opened = await cursor_opener(environment["MONGODB_URL"], environment["MONGODB_DATABASE"])
        viewers = [
            Viewer("operator-0", EVERYBODY, None, {}),
            Viewer("operator-1", EVERYBODY, None, {"active": True}),
        ]
        url = self._services["notifier"].stream_url
        async with self._session:
            with crowd_of(url, viewers, token, opened, self._random) as crowd:
                self._crowd = crowd
                crowd.come(crowd.members)
                await crowd.all_live()
                runs = (self._log.run, self._lists.run, self._readiness.run)
                self._tasks = [asyncio.create_task(run(self._session)) for run in runs]
                try:
                    yield
                finally:
                    await self._stop()

    async def _stop(self) -> list[str]:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        return [repr(error)[:500] for error in ended if not isinstance(error, asyncio.CancelledError)]

    async def judge(self) -> list[str]:
        """What readers were not given, or wrongly."""
        faults = await self._stop() + self._readiness.faults()
        async with open_database(
            self._environment["MONGODB_URL"], self._environment["MONGODB_DATABASE"]
        ) as database:
            records = await read_records(database)
        seqs = {partition["_id"]: partition["seq"] for partition in records.partitions}
        faults += await self._log.finish(self._session, seqs)
        assert self._crowd is not None
        history = history_of(records.events)
        faults += [str(fault) for fault in await self._crowd.faults(history)]
        faults += [f"the list of {name} is wrong" for name in await self._crowd.wrong_lists(history)]
        for service in self._services.values():
            if not await service.is_ready():
                faults.append(f"{service.name} is not ready after the faults")
        return faults

    def answers(self) -> Counter[str]:
        """By reader and status."""
        found: Counter[str] = Counter()
        for status, number in (self._log.answers + self._lists.answers).items():
            found[f"query {status or 'cut'}"] += number
        for (name, status), number in self._readiness.answers.items():
            found[f"/readyz of {name} {status or 'cut'}"] += number
        if self._crowd:
            for reason, number in self._crowd.ends.items():
                found[f"stream {reason}"] += number
        return found
