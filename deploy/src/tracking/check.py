"""`tracking check`: the checker on a stack that runs, with a bar for who waits and a report at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from rich.console import Console
from rich.progress import Progress

from shared.broker import BrokerUnavailable
from shared.database import DatabaseUnavailable, open_database
from shared.topology import DEAD_QUEUE
from shared.workflow import Workflow
from tracking.examination import (
    Findings,
    OnLooked,
    applied_so_far,
    count_outcomes,
    examine,
    queue_lengths,
    read_partitions,
)


class NotChecked(Exception):
    """The check could not be done; it says nothing of the records."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the installation is, and what it lets orders do."""

    amqp_url: str
    mongodb_url: str
    database: str
    workflow: Workflow


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a check."""

    findings: Findings
    waiting: dict[str, int]
    """Messages ready in each queue, by its name, as the check began."""
    seconds: float
    hidden: int = 0
    """Queues whose length the user of the broker may not ask for."""


async def check(target: Target) -> Report:
    """Examines a running installation, and shows how far it is.

    Raises:
        NotChecked: the broker or the database does not answer, or not as those of an installation. It
            says how far the check got.
    """
    started = monotonic()
    findings = Findings()
    try:
        async with open_database(target.mongodb_url, target.database) as database:
            partitions = await read_partitions(database)
            waiting = await queue_lengths(target.amqp_url, len(partitions))
            total = applied_so_far(partitions) + await count_outcomes(database)
            with progress_bar(total) as on_looked:
                await examine(database, partitions, target.workflow, on_looked, findings=findings)
    except DatabaseUnavailable as error:
        raise NotChecked(f"the database does not answer: {error}{_how_far(findings)}") from None
    except BrokerUnavailable as error:
        raise NotChecked(f"{error.summary}: {error}") from None
    hidden = len(partitions) + 1 - len(waiting)
    return Report(findings, waiting, monotonic() - started, hidden)


@contextmanager
def progress_bar(total: int) -> Iterator[OnLooked]:
    """Shows a bar on the terminal while the body runs."""
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("checking", total=total)
        yield lambda number: progress.advance(task, number)


def describe(report: Report) -> str:
    """What was looked at, what was found, and what it does not tell, in a few lines."""
    found, dead = report.findings, report.waiting.get(DEAD_QUEUE, 0)
    queued = {name: length for name, length in report.waiting.items() if length and name != DEAD_QUEUE}
    lines = [
        f"orders {found.orders:,}, events {found.events:,}, outcomes {found.outcomes:,},"
        f" partitions {found.partitions:,}",
        f"messages waiting: {sum(queued.values()):,} in the queues of commands, {dead:,} dead letters",
        *(f"  {name}: {length:,}" for name, length in queued.items()),
        *(
            [f"  not known of {report.hidden:,} queues: the user has no right on them"]
            if report.hidden
            else []
        ),
        *([f"parked: {found.parked:,}, see `tracking parked`"] if found.parked else []),
        *found.examples,
    ]
    if found.faults > len(found.examples):
        lines.append(f"and {found.faults - len(found.examples):,} more")
    lines.append(_verdict(found.faults))
    if queued:
        lines.append("what waits is not decided yet; this says nothing of it")
    if found.applied_meanwhile:
        lines.append(
            f"{found.applied_meanwhile:,} updates were applied during the check: what was recorded before"
            " was looked at as a whole, of them a part"
        )
    if found.unsettled:
        lines.append(f"{found.unsettled:,} changed whenever they were looked at, and were not judged")
    lines.append(f"{report.seconds:.1f} s")
    return "\n".join(lines)


def _how_far(found: Findings) -> str:
    if not found.partitions:
        return ""
    return (
        f"; until then orders {found.orders:,}, events {found.events:,}, outcomes {found.outcomes:,}:"
        f" {_verdict(found.faults)}"
    )


def _verdict(faults: int) -> str:
    if not faults:
        return "no faults"
    return "1 fault" if faults == 1 else f"{faults:,} faults"
