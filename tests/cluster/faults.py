"""What can be done to nodes, database and services: each fault begins with a context, and ends with it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from cluster.network import ADDRESSES, HOST_ADDRESS
from cluster.scene import Scene

FLAP_CUT_SECONDS, FLAP_JOINED_SECONDS, FLAPS = 4.0, 4.0, 4
KILLS = 25

Nodes = Sequence[int]
Fault = Callable[[Scene, Nodes], AbstractAsyncContextManager[None]]
"""Begins a fault of these nodes; its end is that of the context."""


@asynccontextmanager
async def killed(scene: Scene, nodes: Nodes) -> AsyncIterator[None]:
    """SIGKILL; started again at the end."""
    for node in nodes:
        await scene.cluster.kill(node)
    yield
    await scene.cluster.start(*nodes)


@asynccontextmanager
async def frozen(scene: Scene, nodes: Nodes) -> AsyncIterator[None]:
    """SIGSTOP, and SIGCONT at the end."""
    for node in nodes:
        scene.cluster.freeze(node)
    try:
        yield
    finally:
        for node in nodes:
            scene.cluster.wake(node)


@asynccontextmanager
async def cut_from_all(scene: Scene, nodes: Nodes) -> AsyncIterator[None]:
    """Its cable is pulled."""
    network = scene.cluster.network
    network.link(nodes[0], up=False)
    try:
        yield
    finally:
        network.link(nodes[0], up=True)


@asynccontextmanager
async def cut_from_peers(scene: Scene, nodes: Nodes) -> AsyncIterator[None]:
    """Clients still reach it."""
    others = [address for node, address in ADDRESSES.items() if node != nodes[0]]
    scene.cluster.network.drop(nodes[0], others, cut=True)
    try:
        yield
    finally:
        scene.cluster.network.drop(nodes[0], others, cut=False)


@asynccontextmanager
async def cut_from_clients(scene: Scene, nodes: Nodes) -> AsyncIterator[None]:
    """Services no longer reach it; the other nodes do."""
    scene.cluster.network.drop(nodes[0], [HOST_ADDRESS], cut=True)
    try:
        yield
    finally:
        scene.cluster.network.drop(nodes[0], [HOST_ADDRESS], cut=False)


def flapping(fault: Fault) -> Fault:
    """The fault, again and again: 4 s with it, 6 s without."""

    @asynccontextmanager
    async def flaps(scene: Scene, nodes: Nodes) -> AsyncIterator[None]:
        for _ in range(FLAPS):
            async with fault(scene, nodes):
                await asyncio.sleep(FLAP_CUT_SECONDS)
            await asyncio.sleep(FLAP_JOINED_SECONDS)
        yield

    return flaps


@asynccontextmanager
async def restarted(scene: Scene, nodes: Nodes) -> AsyncIterator[None]:
    """One after the other, as an upgrade does: on to the next when every queue would survive it."""
    for node in nodes:
        await scene.cluster.stop(node)
        await scene.cluster.start(node)
        await scene.cluster.control(node, "await_online_quorum_plus_one", tool="rabbitmq-upgrade")
    yield


@asynccontextmanager
async def out_of_memory(scene: Scene, nodes: Nodes) -> AsyncIterator[None]:
    """Its memory alarm: the whole cluster holds publishers back."""
    await scene.cluster.control(nodes[0], "set_vm_memory_high_watermark", "0.0001")
    yield
    await scene.cluster.control(nodes[0], "set_vm_memory_high_watermark", "0.6")


@asynccontextmanager
async def out_of_disk(scene: Scene, nodes: Nodes) -> AsyncIterator[None]:
    """Its disk alarm."""
    await scene.cluster.control(nodes[0], "set_disk_free_limit", "1000000GB")
    yield
    await scene.cluster.control(nodes[0], "set_disk_free_limit", "2GB")


@asynccontextmanager
async def wiped(scene: Scene, nodes: Nodes) -> AsyncIterator[None]:
    """Its disk is lost: it is forgotten, joins empty, and gets a member of each queue again."""
    cluster, node = scene.cluster, nodes[0]
    await cluster.kill(node)
    cluster.wipe(node)
    name = f"rabbit@{ADDRESSES[node]}"
    yield
    await cluster.control(cluster.alive()[0], "forget_cluster_node", name)
    await cluster.start(node)
    await cluster.control(node, "grow", name, "all", tool="rabbitmq-queues")
    queues = await cluster.queues(scene.vhost)
    assert all(len(queue["members"]) == len(ADDRESSES) for queue in queues), queues


@asynccontextmanager
async def without_database(scene: Scene, _: Nodes) -> AsyncIterator[None]:
    """The database is stopped."""
    await scene.database.stop()
    yield
    await scene.database.start()


@asynccontextmanager
async def order_state_killed(scene: Scene, _: Nodes) -> AsyncIterator[None]:
    """SIGKILL of one replica after the other, and a start."""
    for number in range(KILLS):
        service = scene.services[f"order_state-{number % 2}"]
        await service.kill()
        await service.start()
    yield
