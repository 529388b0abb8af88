"""The faults, in the order of the table: what is done to which node, for how long, and the bar."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from cluster.faults import (
    FLAP_CUT_SECONDS,
    FLAPS,
    KILLS,
    Fault,
    Nodes,
    cut_from_all,
    cut_from_clients,
    cut_from_peers,
    flapping,
    frozen,
    killed,
    order_state_killed,
    out_of_disk,
    out_of_memory,
    restarted,
    wiped,
    without_database,
)
from cluster.network import ADDRESSES
from cluster.scene import Scene
from cluster.verdict import Bar, accepted_all_along, clean_restart, single_fault, while_it_lasts

LEADERS = 2
"""The node that leads all queues when a scenario begins."""
BYSTANDER = 3
"""Holds no leader, and in the scenarios of a bystander one notifier's private queue and no other client."""
FAULT_SECONDS = 60.0
KILLED_SECONDS = 15.0
DATABASE_SECONDS = 180.0

ELSEWHERE = {f"{module}-{ordinal}": 1 for module in ("ingest", "order_state") for ordinal in (0, 1)}
AWAY_FROM_BYSTANDER = ELSEWHERE | {"notifier-0": 1, "notifier-1": BYSTANDER}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of the table."""

    name: str
    title: str
    mode: str
    """The address mode of a plain run. `--modes` chooses others."""
    fault: Fault
    nodes: Callable[[Scene], Awaitable[Nodes]]
    """Which nodes it is about."""
    hold_seconds: float = 0.0
    bar: Callable[[float], Bar] = single_fault
    """For a fault that lasted so many seconds: ending one may take longer than planned."""
    pinned: Mapping[str, int] = field(default_factory=dict)


async def connected(scene: Scene) -> Nodes:
    """The node with the most connections of ingest and order-state; of two with as many, not the leaders'."""
    connections = await scene.cluster.connections()

    def clients(node: int) -> tuple[int, bool]:
        here = connections[node]
        return here["ingest"] + here["order-state"], node != LEADERS

    return [max(ADDRESSES, key=clients)]


async def leaders(_: Scene) -> Nodes:
    """That of the queues."""
    return [LEADERS]


async def bystander(_: Scene) -> Nodes:
    """That of one notifier's queue."""
    return [BYSTANDER]


async def two(_: Scene) -> Nodes:
    """Two of the three: what is left is no quorum."""
    return [LEADERS, BYSTANDER]


async def every(_: Scene) -> Nodes:
    """All three."""
    return list(ADDRESSES)


_CUTS = {
    "all": ("one node cut from everybody", cut_from_all),
    "peers": ("one node cut from its peers, clients still reach it", cut_from_peers),
    "clients": ("services cut from their node", cut_from_clients),
}


def _all() -> list[Scenario]:
    node = "the node that services are connected to"
    beside = "a node with only another notifier's private queue"
    kill, freeze = f"kill -9, {KILLED_SECONDS:g} s away: ", f"frozen {FAULT_SECONDS:g} s: "
    return [
        Scenario("kill-connected", kill + node, "hosts", killed, connected, KILLED_SECONDS),
        Scenario(
            "kill-leaders", kill + "the queue leaders' node", "balancer", killed, leaders, KILLED_SECONDS
        ),
        Scenario(
            "kill-bystander",
            kill + beside,
            "hosts",
            killed,
            bystander,
            KILLED_SECONDS,
            pinned=AWAY_FROM_BYSTANDER,
        ),
        Scenario(
            "kill-two",
            kill + "two nodes at once (no quorum)",
            "hosts",
            killed,
            two,
            KILLED_SECONDS,
            while_it_lasts,
        ),
        Scenario("freeze-connected", freeze + node, "hosts", frozen, connected, FAULT_SECONDS),
        Scenario(
            "freeze-leaders", freeze + "the queue leaders' node", "balancer", frozen, leaders, FAULT_SECONDS
        ),
        Scenario(
            "freeze-bystander",
            freeze + beside,
            "hosts",
            frozen,
            bystander,
            FAULT_SECONDS,
            pinned=AWAY_FROM_BYSTANDER,
        ),
        Scenario(
            "freeze-two",
            freeze + "two nodes at once (no quorum)",
            "balancer",
            frozen,
            two,
            FAULT_SECONDS,
            while_it_lasts,
        ),
        *_cuts(),
        Scenario(
            "rolling",
            "clean restart of all three, one after the other",
            "hosts",
            restarted,
            every,
            0,
            clean_restart,
        ),
        Scenario(
            "memory-alarm",
            "memory alarm of one node, 20 s",
            "hosts",
            out_of_memory,
            connected,
            20,
            while_it_lasts,
        ),
        Scenario(
            "disk-alarm",
            "disk alarm of one node, 20 s",
            "balancer",
            out_of_disk,
            connected,
            20,
            while_it_lasts,
        ),
        Scenario("wiped", "one node wiped and joined again", "hosts", wiped, connected, 5),
        Scenario(
            "database",
            f"database away for {DATABASE_SECONDS:g} s",
            "hosts",
            without_database,
            every,
            DATABASE_SECONDS,
            accepted_all_along,
        ),
        Scenario(
            "order-state",
            f"order-state killed {KILLS} times",
            "hosts",
            order_state_killed,
            every,
            0,
            single_fault,
        ),
    ]


def _cuts() -> list[Scenario]:
    found = []
    for number, (name, (title, fault)) in enumerate(_CUTS.items()):
        modes = ("hosts", "balancer")
        long = f"{title}, {FAULT_SECONDS:g} s"
        found.append(Scenario(f"cut-{name}", long, modes[number % 2], fault, connected, FAULT_SECONDS))
        short = f"{title}, flapping ({FLAPS} times {FLAP_CUT_SECONDS:g} s)"
        found.append(Scenario(f"flap-{name}", short, modes[1 - number % 2], flapping(fault), connected))
    return found


SCENARIOS = _all()
