"""Conducts one scenario: fault, recovery, end of the load, consistency check, verdict."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster.measuring import longest_gap_seconds, outage_seconds
from cluster.nodes import Cluster
from cluster.scenarios import LEADERS, Scenario
from cluster.scene import DATABASE, PARTITIONS, Scene, amqp_url, scene
from cluster.verdict import Outcome
from judge import Fault, history_of
from tracking.upkeep.checker import find_faults
from tracking.upkeep.record_reader import queue_lengths, read_records
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.storage.database import open_database

STEADY_BEFORE_SECONDS = 1.0
RECOVERY_SECONDS = 60.0
"""After the end of a fault. Whoever does not run by then does not run again by itself."""
CHECK_SECONDS = 60.0
LOAD_END_SECONDS = 20.0
SCENARIO_SECONDS = 480.0
"""For one scenario with all of its parts."""

Say = Callable[[str], None]


@dataclass(slots=True)
class _Measured:
    fault: float
    """How long it lasted."""
    accepted: float
    decided: float
    shown: float
    recovered: bool


async def conduct(cluster: Cluster, scenario: Scenario, mode: str, folder: Path, say: Say) -> Outcome:
    """One row of the table.

    Raises:
        TimeoutError: it took longer than `SCENARIO_SECONDS`.
    """
    async with (
        asyncio.timeout(SCENARIO_SECONDS),
        scene(cluster, folder, mode=mode, leaders=LEADERS, pinned=scenario.pinned) as under_test,
    ):
        assert await _running(under_test, RECOVERY_SECONDS), "the system does not run before the fault"
        measured = await _measure(under_test, scenario, say)
        if not measured.recovered:
            await under_test.restart_services()
        await under_test.stop_load(seconds=LOAD_END_SECONDS)
        return await _judge(under_test, scenario, mode, measured, say)


async def _measure(scene: Scene, scenario: Scenario, say: Say) -> _Measured:
    await asyncio.sleep(STEADY_BEFORE_SECONDS)
    nodes = await scenario.nodes(scene)
    say(f"{scenario.name}: node {', '.join(map(str, nodes))}")
    since = time.monotonic()
    async with scenario.fault(scene, nodes):
        await asyncio.sleep(scenario.hold_seconds)
    fault = time.monotonic() - since
    recovered = await _running(scene, RECOVERY_SECONDS)
    until = time.monotonic()
    probes = scene.probes
    return _Measured(
        fault,
        outage_seconds(probes.accepted, since, until),
        outage_seconds(probes.decided, since, until),
        longest_gap_seconds(scene.deliveries, since, until),
        recovered,
    )


async def _running(scene: Scene, seconds: float) -> bool:
    """Whether all partitions accept and decide steadily before so many seconds are over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        await asyncio.sleep(0.25)
        if scene.probes.is_running():
            return True
    return False


async def _judge(scene: Scene, scenario: Scenario, mode: str, measured: _Measured, say: Say) -> Outcome:
    found, wrong = await _faults(scene)
    for fault in (*found, *wrong)[:10]:
        say(f"  {fault}")
    lost = [fault for fault in found if fault.endswith("is lost")]
    twice = [fault for fault in found if "took effect" in fault]
    kinds = [fault.kind for fault in wrong]
    cuts = sum(crowd.ends.total() + crowd.resyncs.total() + crowd.gaps for crowd in scene.crowds)
    return Outcome(
        scenario=scenario.title,
        mode=mode,
        bar=scenario.bar(measured.fault),
        accepted_seconds=measured.accepted,
        decided_seconds=measured.decided,
        recovered_alone=measured.recovered,
        lost=len(lost) + kinds.count("lost"),
        repeated=len(twice) + kinds.count("repeated"),
        reordered=kinds.count("reordered"),
        other_faults=len(found) - len(lost) - len(twice) + kinds.count("wrongly delivered"),
        dashboards=scene.members,
        noticed=min(cuts, scene.members),
        dashboard_gap_seconds=measured.shown,
        note="" if measured.recovered else "the services were restarted",
    )


async def _faults(scene: Scene) -> tuple[list[str], list[Fault]]:
    """Contradictions in what is stored and was acknowledged, and in what dashboards were sent."""
    acknowledged = [*scene.caller.acknowledged, *scene.probes.acknowledged]
    deadline = time.monotonic() + CHECK_SECONDS
    while True:
        async with open_database(scene.database.url, DATABASE) as database:
            records = await read_records(database)
        found = find_faults(records, acknowledged)
        waiting = await _waiting(scene)
        if not (found or waiting) or time.monotonic() > deadline:
            break
        await asyncio.sleep(1)
    if waiting:
        found.append(f"messages wait: {waiting}")
    history = history_of(records.events)
    wrong = [await crowd.faults(history) for crowd in scene.crowds]
    return found, [fault for faults in wrong for fault in faults]


async def _waiting(scene: Scene) -> dict[str, int] | str:
    """Queues with messages, by name; dead letters among them."""
    try:
        lengths = await queue_lengths(amqp_url("hosts", scene.vhost), PARTITIONS)
    except BrokerUnavailable as error:
        return str(error)
    return {name: length for name, length in lengths.items() if length}
