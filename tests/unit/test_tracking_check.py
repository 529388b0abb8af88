"""What `tracking check` says of its findings."""

import asyncio
from typing import Any, cast

from memory_collections import Collection

from tracking.upkeep.check import Findings, Report, describe
from tracking.upkeep.record_reader import read_partitions
from tracking_shared.contracts.layout import Layout, Routing
from tracking_shared.messaging.topology import DEAD_QUEUE
from tracking_shared.storage.database import Database


def test_sound_records() -> None:
    findings = Findings(orders=10_000, events=50_000, outcomes=50_010, partitions=8)

    assert describe(Report(findings, {"orders.commands.p0": 0, DEAD_QUEUE: 0}, 2.34)).splitlines() == [
        "orders 10,000, events 50,000, outcomes 50,010, partitions 8",
        "messages waiting: 0 in the queues of commands, 0 dead letters",
        "no faults",
        "2.3 s",
    ]


def test_faults_are_listed_and_those_beyond_the_bound_counted() -> None:
    findings = Findings()
    findings.add_faults(f"fault {number}" for number in range(1_060))

    lines = describe(Report(findings, {}, 1)).splitlines()

    assert lines[2:4] == ["fault 0", "fault 1"]
    assert lines[51:54] == ["fault 49", "and 1,010 more", "1,060 faults"]


def test_what_waits_is_named_and_said_to_be_undecided() -> None:
    text = describe(Report(Findings(), {"orders.commands.p3": 1_200, DEAD_QUEUE: 7}, 1))

    assert "1,200 in the queues of commands, 7 dead letters" in text
    assert "  orders.commands.p3: 1,200" in text
    assert "not decided yet" in text


def test_dead_letters_alone_are_not_in_flight() -> None:
    assert "not decided" not in describe(Report(Findings(), {DEAD_QUEUE: 7}, 1))


def test_what_is_parked_is_told_and_no_fault() -> None:
    lines = describe(Report(Findings(parked=3), {}, 1)).splitlines()

    assert lines[2:4] == ["parked: 3, see `tracking parked`", "no faults"]


def test_what_was_applied_meanwhile_is_told_and_what_never_stood_still() -> None:
    text = describe(Report(Findings(applied_meanwhile=3, unsettled=1), {}, 1))

    assert "3 updates were applied during the check" in text
    assert "1 changed whenever" in text
    assert "no faults" in text


class ChangedDatabase:
    """A database in which a change from one partition to three has created some of the new ones."""

    def __init__(self, counts: tuple[int, ...], present: int) -> None:
        self._routing = Routing(Layout(counts))
        documents: dict[Any, dict[str, Any]] = {
            number: {"_id": number, "seq": 0, "added_in": min(number, 1)} for number in range(present)
        }
        self.partitions = Collection(lambda: asyncio.sleep(0), documents)

    async def read_routing(self) -> Routing:
        return self._routing


async def test_partitions_that_are_just_being_added_are_not_judged() -> None:
    for counts, present, expected in (((1,), 2, [0]), ((1, 3), 4, [0, 1, 2, 3])):
        found = await read_partitions(cast(Database, ChangedDatabase(counts, present)))
        assert [partition["_id"] for partition in found] == expected
