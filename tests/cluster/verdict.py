"""What a scenario measured, and whether it is within its bar. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bar:
    """The longest that a scenario may leave callers without accepted, and without decided updates."""

    accepted_seconds: float
    decided_seconds: float


def single_fault(_: float) -> Bar:
    """Of one broker node, however long it lasts."""
    return Bar(15, 15)


def clean_restart(_: float) -> Bar:
    """Of one node after the other."""
    return Bar(5, 5)


def while_it_lasts(fault_seconds: float) -> Bar:
    """For what nothing can be accepted during: as long as that, and 15 s."""
    return Bar(fault_seconds + 15, fault_seconds + 15)


def accepted_all_along(fault_seconds: float) -> Bar:
    """For what nothing can be decided during."""
    return Bar(5, fault_seconds + 15)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one scenario."""

    scenario: str
    mode: str
    """How the services address the cluster: `hosts` or `balancer`."""
    bar: Bar
    accepted_seconds: float
    """Longest time without an accepted update, of the worst partition."""
    decided_seconds: float
    """Longest time without a decided one."""
    recovered_alone: bool
    lost: int
    repeated: int
    reordered: int
    other_faults: int
    """Of the consistency check, and wrong deliveries."""
    dashboards: int
    noticed: int
    """Dashboards whose connection was cut, or that were told to begin anew."""
    dashboard_gap_seconds: float
    """Longest time without an event for all dashboards together."""
    note: str = ""
    """What a person had to do."""


def misses(outcome: Outcome) -> Iterator[str]:
    """Each bar that was missed, in words."""
    for kind in ("lost", "repeated", "reordered", "other_faults"):
        number = getattr(outcome, kind)
        if number:
            yield f"{kind.replace('_', ' ')}: {number}"
    for what, seconds, bar in (
        ("accepted", outcome.accepted_seconds, outcome.bar.accepted_seconds),
        ("decided", outcome.decided_seconds, outcome.bar.decided_seconds),
    ):
        if seconds > bar:
            yield f"not {what} for {seconds:.1f} s (bar: {bar:.0f} s)"
    if not outcome.recovered_alone:
        yield "did not run again by itself"
