"""The scene of one scenario: database, two replicas of each service, load, probes, dashboards."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from uuid import uuid4

from callers import JWT_SECRET, Caller, token
from cluster.network import ADDRESSES
from cluster.nodes import PASSWORD, PORT, USER, Cluster
from cluster.probes import Probes
from crowd import Crowd, crowd_of
from forked_services import ForkedService
from positions import cursor_opener
from tracking.devstack.database_node import DatabaseNode
from tracking.devstack.service_process import ServiceProcess
from tracking_shared.messaging.connection import connect
from tracking_shared.messaging.topology import partition_queue_name
from traffic import Traffic, random_lives
from viewers import EVERYBODY, Viewer, random_viewers

PARTITIONS = 4
REPLICAS = 2
LOAD_PER_SECOND = 10
"""Beside 16 probes a second."""
VIEWERS = 8
"""At each notifier."""
BALANCER_PORT = 5670
DATABASE = "tracking"
MODULES = ("order_state", "ingest", "notifier", "query")


@dataclass(slots=True)
class Scene:
    """What takes part."""

    cluster: Cluster
    vhost: str
    database: DatabaseNode
    services: Mapping[str, ServiceProcess]
    """By module and ordinal, such as `ingest-0`."""
    caller: Caller
    probes: Probes
    crowds: Sequence[Crowd]
    traffic: Traffic
    deliveries: list[float]
    """When dashboards got something, to a tenth of a second."""
    _loading: "asyncio.Task[None]"
    _probing: "asyncio.Task[None]"

    @property
    def members(self) -> int:
        """All dashboards."""
        return sum(len(crowd.members) for crowd in self.crowds)

    async def stop_load(self, *, seconds: float) -> None:
        """No further report is begun; those under way get so long to be answered."""
        self.traffic.stop()
        self._probing.cancel()
        await asyncio.wait([self._loading, self._probing], timeout=seconds)
        self._loading.cancel()

    async def restart_services(self) -> None:
        """What a person does as the last resort."""
        for service in self.services.values():
            await service.restart()


def amqp_url(mode: str, vhost: str, node: int | None = None) -> str:
    """`mode`: `hosts` for all three in one URL, or `balancer`. `node`: this one alone."""
    hosts = ",".join(f"{address}:{PORT}" for address in ADDRESSES.values())
    if node is not None:
        hosts = f"{ADDRESSES[node]}:{PORT}"
    elif mode == "balancer":
        hosts = f"127.0.0.1:{BALANCER_PORT}"
    return f"amqp://{USER}:{PASSWORD}@{hosts}/{vhost}"


@asynccontextmanager
async def scene(
    cluster: Cluster, folder: Path, *, mode: str, leaders: int, pinned: Mapping[str, int]
) -> AsyncIterator[Scene]:
    """A scene in which updates are accepted, decided and shown, on a virtual host of its own.

    `leaders`: the node that leads all queues. `pinned`: replicas that know one node only.
    """
    async with AsyncExitStack() as stack:
        vhost = f"v-{uuid4().hex[:8]}"
        await cluster.make_vhost(vhost)
        stack.push_async_callback(_forget, cluster, vhost)
        await _declare(cluster, vhost, leaders)
        database = DatabaseNode(folder / "database")
        stack.push_async_callback(database.stop)
        await database.start()
        services = _services(folder, mode, vhost, database.url, pinned)
        for service in services.values():
            stack.push_async_callback(service.stop)
        await asyncio.gather(*(service.start() for service in services.values()))
        yield await _set_going(stack, cluster, vhost, database, services)


async def _forget(cluster: Cluster, vhost: str) -> None:
    with suppress(Exception):  # the next scenario has a virtual host of its own
        await cluster.control(cluster.alive()[0], "delete_vhost", vhost)


async def _declare(cluster: Cluster, vhost: str, leaders: int) -> None:
    # A queue is led by the node on which it was declared.
    async with connect(amqp_url("", vhost, leaders), "declare") as connection:
        await connection.declare(PARTITIONS)
    queues = {queue["name"]: queue for queue in await cluster.queues(vhost)}
    for name in map(partition_queue_name, range(PARTITIONS)):
        assert len(queues[name]["members"]) == len(ADDRESSES), queues[name]


def _services(
    folder: Path, mode: str, vhost: str, database_url: str, pinned: Mapping[str, int]
) -> dict[str, ServiceProcess]:
    services = {}
    for module in MODULES:
        for ordinal in range(REPLICAS):
            name = f"{module}-{ordinal}"
            environment = {
                "AMQP_URL": amqp_url(mode, vhost, pinned.get(name)),
                "MONGODB_URL": database_url,
                "MONGODB_DATABASE": DATABASE,
                "JWT_SECRET": JWT_SECRET,
                "PARTITIONS": str(PARTITIONS),
                "REPLICA_ORDINAL": str(ordinal),
                "REPLICA_COUNT": str(REPLICAS),
            }
            services[name] = ForkedService(module, environment=environment, logs=folder, name=name)
    return services


async def _set_going(
    stack: AsyncExitStack,
    cluster: Cluster,
    vhost: str,
    database: DatabaseNode,
    services: Mapping[str, ServiceProcess],
) -> Scene:
    random = Random()
    urls = [services[f"ingest-{ordinal}"].url for ordinal in range(REPLICAS)]
    caller = await stack.enter_async_context(Caller(urls, give_up_seconds=600))
    lives = random_lives(6000, 8, random)
    known = {life.order_id: life.merchant_id for life in lives[:300]}
    opened = await cursor_opener(database.url, DATABASE)
    crowds = []
    for ordinal in range(REPLICAS):
        operator = Viewer(f"operator-{ordinal}", EVERYBODY, None, {})
        viewers = [operator, *random_viewers(VIEWERS - 1, known, random)]
        url = services[f"notifier-{ordinal}"].stream_url
        crowds.append(stack.enter_context(crowd_of(url, viewers, token, opened, random)))
    probes = Probes(urls, PARTITIONS, random)
    await probes.create(caller)
    load = Traffic(caller, lives, LOAD_PER_SECOND)
    deliveries: list[float] = []
    tasks = [
        asyncio.create_task(load.run()),
        asyncio.create_task(probes.run()),
        asyncio.create_task(_watch(crowds, deliveries)),
    ]
    for task in tasks:
        stack.callback(task.cancel)
    await load.goes_on(10)
    for crowd in crowds:
        crowd.come(crowd.members)
    await asyncio.gather(*(crowd.all_live() for crowd in crowds))
    return Scene(
        cluster, vhost, database, services, caller, probes, crowds, load, deliveries, tasks[0], tasks[1]
    )


async def _watch(crowds: Sequence[Crowd], deliveries: list[float]) -> None:
    delivered = 0
    while True:
        now_delivered = sum(crowd.delivered for crowd in crowds)
        if now_delivered > delivered:
            deliveries.append(time.monotonic())
        delivered = now_delivered
        await asyncio.sleep(0.1)
