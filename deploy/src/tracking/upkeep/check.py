"""`tracking check`: the consistency check of a running installation, with a progress bar and a report.

It reads the records in slices while orders change. Suspicious records are read again (`recheck`), and only a
fault of a record that did not change meanwhile is reported.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import monotonic

from tracking.errors import CommandError
from tracking.terminal import progress_bar
from tracking.upkeep.checker import Inspection, entry_faults, moved_partitions, outcome_faults
from tracking.upkeep.held_checks import count_fault
from tracking.upkeep.queue_members import queue_members
from tracking.upkeep.recheck import Recheck, RecheckResult
from tracking.upkeep.record_reader import (
    applied_so_far,
    archived_pages,
    correction_slices,
    count_outcomes,
    held_slices,
    order_slices,
    outcome_slices,
    parked_slices,
    queue_lengths,
    queue_names,
    read_partitions,
    server_errors,
    stored_in_events,
)
from tracking_shared.contracts.documents import PartitionDocument
from tracking_shared.contracts.timestamps import now
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.messaging.topology import DEAD_QUEUE
from tracking_shared.storage.audit_trail import KEPT_DAYS
from tracking_shared.storage.database import UPDATES_TTL_SECONDS, Database, driver_errors, open_database

PAGE_EVENTS = 20_000
"""Events per query: twice the usual number, because the embedded database scans all later ones each time."""

MAX_FAULTS = 50
"""Faults with a description; the others are only counted."""

TTL_MARGIN = timedelta(hours=1)
"""Outcomes this close to their expiry are not required: clocks differ, and a check takes time."""

OnChecked = Callable[[int], None]
"""Called with the number of further documents checked: each event and each outcome once."""


class NotChecked(CommandError):
    """The check could not be completed; the message says nothing about the other records."""


@dataclass(frozen=True, slots=True)
class Target:
    """The installation to check, and its workflow."""

    amqp_url: str
    mongodb_url: str
    database: str
    workflow: Workflow
    audit_days: int = KEPT_DAYS
    """The time for which corrections are in the audit trail."""
    archive: Path | None = None
    """The folder of the archive; None: it is not read."""
    management_url: str = ""
    """Of the broker's management API; "": there is none."""


@dataclass(slots=True)
class Findings:
    """The number of checked records, and the faults in them."""

    orders: int = 0
    events: int = 0
    outcomes: int = 0
    partitions: int = 0
    parked: int = 0
    """Parked updates."""
    held: int = 0
    """Held updates."""
    archived: int = 0
    """Archived orders."""
    is_archive_read: bool = False
    """True: the events of archived orders were checked; else they were only counted."""
    applied_meanwhile: int = 0
    """Updates that were applied during the check."""
    unsettled: int = 0
    """Orders, updates and parked ranges that changed during every recheck, so that they were not judged."""
    faults: int = 0
    examples: list[str] = field(default_factory=list)
    """Descriptions of the first `MAX_FAULTS` faults."""

    def add_faults(self, faults: Iterable[str]) -> None:
        """Counts faults, and keeps the first descriptions."""
        for fault in faults:
            self.faults += 1
            if len(self.examples) < MAX_FAULTS:
                self.examples.append(fault)

    def add(self, result: RecheckResult) -> None:
        """Adds the result of a recheck."""
        self.add_faults(result.faults)
        self.unsettled += result.unsettled


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a check."""

    findings: Findings
    waiting: dict[str, int]
    """Ready messages by queue, at the start of the check."""
    seconds: float
    hidden: int = 0
    """Queues that the broker's user may not read."""
    members: Sequence[str] = ()
    """What is known of the members of the queues, in lines."""


async def check_installation(target: Target) -> Report:
    """Checks a running installation, with a progress bar.

    Raises:
        NotChecked: the broker or the database does not answer. The message has the findings so far.
        NoInstallation: the database holds no installation.
    """
    started = monotonic()
    findings = Findings()
    try:
        with server_errors(NotChecked):
            async with open_database(target.mongodb_url, target.database) as database:
                partitions = await read_partitions(database)
                waiting = await queue_lengths(target.amqp_url, len(partitions))
                names = queue_names(len(partitions))
                members = await queue_members(target.management_url, target.amqp_url, names)
                total = applied_so_far(partitions) + await count_outcomes(database)
                with progress_bar("checking", total) as (progress, task):
                    advance = partial(progress.advance, task)
                    await check_records(
                        database,
                        partitions,
                        target.workflow,
                        advance,
                        findings=findings,
                        audit_days=target.audit_days,
                        archive=target.archive,
                    )
    except NotChecked as error:
        raise NotChecked(f"{error}{_progress(findings)}") from None
    hidden = len(partitions) + 1 - len(waiting)
    return Report(findings, waiting, monotonic() - started, hidden, members)


async def check_records(
    database: Database,
    partitions: list[PartitionDocument],
    workflow: Workflow,
    on_checked: OnChecked = lambda _: None,
    *,
    page: int = PAGE_EVENTS,
    findings: Findings | None = None,
    audit_days: int = KEPT_DAYS,
    archive: Path | None = None,
) -> Findings:
    """Checks all records of the database, starting from `partitions`, as just read, and those of the archive
    in this folder.

    Memory does not grow with the number of records, except for an order whose history is longer than a slice.
    All events that were recorded when `partitions` were read are checked; of later ones, only some, which
    `Findings.applied_meanwhile` counts. One query reads at most `page` documents, so that its time limit
    suffices for any number. `findings`, if given, are filled during the check.

    Raises:
        DatabaseUnavailable: the database does not answer.
    """
    findings = findings if findings is not None else Findings()
    findings.partitions = len(partitions)
    outcomes_since = now() - timedelta(seconds=UPDATES_TTL_SECONDS) + TTL_MARGIN
    audited_since = now() - timedelta(days=audit_days) + TTL_MARGIN
    inspection = Inspection(partitions, workflow, outcomes_since, audited_since)
    recheck = Recheck(database, partitions, workflow, outcomes_since, audited_since)
    with driver_errors():
        async for records in order_slices(database, page):
            findings.orders += len(records.orders)
            findings.events += len(records.events)
            findings.outcomes += stored_in_events(records)
            if any([*inspection.order_faults(records)]):
                findings.add(await recheck.orders(records))
            on_checked(len(records.events))
        await _check_archive(database, page, inspection, partitions, findings, archive)
        later = await read_partitions(database)
        moved = moved_partitions(partitions, later)
        findings.unsettled += len(moved)
        findings.add_faults(inspection.log_faults(later, moved))
        await _check_parked(database, page, inspection, recheck, findings)
        await _check_held(database, page, inspection, recheck, findings)
        async for records in outcome_slices(database, page):
            findings.outcomes += len(records.updates) - stored_in_events(records)
            if any(outcome_faults(records.updates, records.events)):
                findings.add(await recheck.outcomes(records))
            on_checked(len(records.updates))
        async for records in correction_slices(database, page):
            findings.add_faults(entry_faults(records))
    findings.applied_meanwhile = applied_so_far(await read_partitions(database)) - applied_so_far(partitions)
    return findings


async def _check_archive(  # noqa: PLR0917 - what a check is made of
    database: Database,
    page: int,
    inspection: Inspection,
    partitions: list[PartitionDocument],
    findings: Findings,
    folder: Path | None,
) -> None:
    if folder is None:
        async for archived in archived_pages(database, page):
            findings.archived += len(archived)
            inspection.count_unread(archived)
        return
    # Imported here: only an archive needs pyarrow.
    from tracking.upkeep.archive_check import ArchiveCheck  # noqa: PLC0415

    findings.is_archive_read = True
    check = ArchiveCheck(database, folder, inspection, partitions, page)
    async for faults in check.faults():
        findings.add_faults(faults)
    findings.archived = check.orders
    findings.events += check.events


async def _check_parked(
    database: Database, page: int, inspection: Inspection, recheck: Recheck, findings: Findings
) -> None:
    async for records in parked_slices(database, page):
        findings.parked += len(records.parked)
        if any([*inspection.parked_faults(records)]):
            findings.add(await recheck.parked(records))
    findings.add(await recheck.parked_ranges(list(inspection.mismatched_ranges())))


async def _check_held(
    database: Database, page: int, inspection: Inspection, recheck: Recheck, findings: Findings
) -> None:
    async for records in held_slices(database, page):
        findings.held += len(records.held)
        if any([*inspection.held_faults(records)]):
            findings.add(await recheck.held(records))
    partitions = await read_partitions(database)
    wrong = [one["_id"] for one in partitions if count_fault(one, inspection.held[one["_id"]])]
    findings.add(await recheck.held_counts(wrong))


def describe(report: Report) -> str:
    """The report in a few lines: checked records, waiting messages, faults, and the limits of the check."""
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
        *report.members,
        *([f"parked: {found.parked:,}, see `tracking parked`"] if found.parked else []),
        *([f"held: {found.held:,}, see `tracking held`"] if found.held else []),
        *([_archived_line(found)] if found.archived else []),
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


def _archived_line(found: Findings) -> str:
    how = "" if found.is_archive_read else "; only their number was checked, since no ARCHIVE_DIR was given"
    return f"archived: {found.archived:,} orders{how}"


def _progress(found: Findings) -> str:
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
