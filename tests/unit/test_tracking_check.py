"""What `tracking check` says of its findings."""

from tracking.upkeep.check import Findings, Report, describe
from tracking_shared.messaging.topology import DEAD_QUEUE


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
