"""A crowd of viewers, each of another role and filter, while the broker and the notifier fail under load.

Each one keeps a record of what it was sent, and in the end is judged against the recorded history.
"""

import asyncio
import resource
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

import pytest
from notifier_stack import metric

from callers import Caller, eventually, token
from crowd import Crowd, crowd_of
from fixtures import Spine, StartService
from judge import KINDS, history_of
from listeners import examine
from nuisances import nuisances
from positions import cursor_opener
from tracking.devstack.broker_node import BrokerNode
from tracking.devstack.service_process import ServiceProcess
from tracking_shared.storage.database import open_database
from traffic import Traffic, random_lives, traffic
from viewers import random_viewers

OTHER_FILES = 300
"""That this process, or the notifier, may have open beside its clients' sockets."""

LIVES = 3000
"""More than can be reported in the time."""

MERCHANTS = 40
FROZEN_SECONDS = 20
"""The broker gives a silent peer up after two to three heartbeats of 3 seconds."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A crowd before a system under load."""

    crowd: Crowd
    load: Traffic
    notifier: ServiceProcess

    async def begin(self, late: int) -> None:
        """All come but some, who come for the first time in the storm."""
        await self.load.goes_on(20)
        self.crowd.come(self.crowd.members[late:])
        await self.crowd.all_move_on()

    def some_go(self, number: int) -> None:
        """Some leave. Their cursors grow old until the storm."""
        self.crowd.go(self.crowd.some_here(number))

    async def kill_notifier(self) -> None:
        """A crash; the load goes on meanwhile."""
        await self.notifier.kill()
        await self.load.goes_on()
        await self.notifier.start()
        await self.crowd.all_move_on()

    async def freeze_notifier(self, cut: int) -> None:
        """For longer than the broker waits. Some are cut meanwhile, and try to come back."""
        self.notifier.pause()
        try:
            await asyncio.sleep(FROZEN_SECONDS / 2)
            some = self.crowd.some_here(cut)
            self.crowd.go(some)
            self.crowd.come(some)
            await asyncio.sleep(FROZEN_SECONDS / 2)
        finally:
            self.notifier.resume()
        await self.crowd.all_move_on()
        # Who reads nothing falls behind once enough has happened, which takes longer on a busy machine.
        await eventually(self.has_left_some_behind, seconds=90)

    async def has_left_some_behind(self) -> bool:
        """Whether some were seen not to keep up, live or before: among the nuisances some read nothing."""
        return await metric(self.notifier, "tracking_stream_fell_behind_total") > 0

    async def storm(self) -> None:
        """All lose their connections and come back at once, with all who are away."""
        self.crowd.go(self.crowd.members)
        self.crowd.come(self.crowd.members)
        await self.crowd.all_move_on()


@asynccontextmanager
async def scene(
    spine: Spine,
    notifier: ServiceProcess,
    capsys: pytest.CaptureFixture[str],
    *,
    clients: int,
    known_orders: int,
    per_second: float,
) -> AsyncIterator[Scene]:
    """At the end of the body the load stops, and everybody's record is judged.

    `clients`: fewer where the limit on open files is in the way. `known_orders`: which the viewers may name;
    those that come first, so that they do come.
    """
    seed = secrets.randbits(32)
    random = Random(seed)
    lives = random_lives(LIVES, MERCHANTS, random)
    known = {life.order_id: life.merchant_id for life in lives[:known_orders]}
    affordable = min(clients, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OTHER_FILES)
    viewers = random_viewers(affordable, known, random)
    environment = spine.environment
    opened = await cursor_opener(environment["MONGODB_URL"], environment["MONGODB_DATABASE"])
    with crowd_of(notifier.stream_url, viewers, token, opened, random) as crowd:
        async with (
            traffic(spine.caller, lives, per_second) as load,
            nuisances(notifier.stream_url, token(sub="nuisance")) as pests,
        ):
            yield Scene(crowd, load, notifier)
            await eventually(pests.all_punished)
        await examine(spine.environment, spine.caller.acknowledged)
        verdict, complaints = await judge(crowd, spine.environment)
        with capsys.disabled():
            print(f"\n{verdict} (wanted {clients}, seed {seed})")
        assert not complaints, "\n".join([verdict, *complaints[:20]])


async def judge(crowd: Crowd, environment: dict[str, str]) -> tuple[str, list[str]]:
    """The counters, and everything that somebody was sent without being due it, or not sent though due."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        events = await database.order_events.find({}).to_list(None)
    history = history_of(events)
    faults = await crowd.faults(history)
    wrong_lists = await crowd.wrong_lists(history)
    counts = Counter(fault.kind for fault in faults)
    counters = ", ".join(f"{kind} {counts[kind]}" for kind in KINDS)
    verdict = (
        f"{len(crowd.members)} clients, {len(events)} events recorded, {crowd.delivered} delivered: "
        f"{counters}, wrong lists {len(wrong_lists)}; {crowd.ends.total()} connections cut"
    )
    return verdict, [*map(str, faults), *wrong_lists, *crowd.complaints]


@pytest.fixture
async def spine_on_own_broker(
    start_broker: Callable[[], Awaitable[BrokerNode]],
    start_service: StartService,
    service_environment: dict[str, str],
) -> AsyncIterator[tuple[Spine, BrokerNode]]:
    """One ingest and one order-state, on a broker that may be killed."""
    broker = await start_broker()
    service_environment |= {"AMQP_URL": broker.url, "PARTITIONS": "4"}
    order_state, ingest = await start_service("order_state"), await start_service("ingest")
    # A quorum queue of RabbitMQ 3.10 that is killed in its first second breaks for good, and loses what
    # it had confirmed; once it has been through a clean stop it does not.
    await broker.restart()
    async with Caller([ingest.url]) as caller:
        yield Spine(service_environment, ingest, order_state, caller), broker


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_crowd_misses_nothing_whatever_happens_to_broker_and_notifier(
    spine_on_own_broker: tuple[Spine, BrokerNode],
    start_service: StartService,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spine, broker = spine_on_own_broker
    notifier = await start_service("notifier")
    async with scene(spine, notifier, capsys, clients=2000, known_orders=500, per_second=100) as on:
        share = len(on.crowd.members) // 20
        await on.begin(late=share)
        on.some_go(share)
        await broker.kill()
        await broker.start()
        await on.load.goes_on()
        await on.crowd.all_move_on()
        on.some_go(share)
        await on.kill_notifier()
        on.some_go(share)
        await on.freeze_notifier(cut=share)
        on.some_go(share)
        await on.load.goes_on()
        await on.storm()
        await on.load.goes_on()


async def test_a_crowd_misses_nothing_when_the_notifier_is_killed_and_all_come_back_at_once(
    spine: Spine, start_service: StartService, capsys: pytest.CaptureFixture[str]
) -> None:
    notifier = await start_service("notifier")
    async with scene(spine, notifier, capsys, clients=150, known_orders=60, per_second=60) as on:
        await on.begin(late=15)
        on.some_go(15)
        await on.load.goes_on()
        on.some_go(15)
        await on.kill_notifier()
        on.some_go(15)
        await on.load.goes_on()
        await on.storm()
        await on.load.goes_on()
