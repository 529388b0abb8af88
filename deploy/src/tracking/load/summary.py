"""The result of a load: counts, and the first refusals and faults, in the terms of the files.
No I/O, no clock.
"""

import re
from bisect import insort
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from tracking.load.header import Header
from tracking.load.records import Location, Operation, Record, Result, quoted
from tracking.terminal import printable

MAX_SHOWN = 20
"""Faults and refusals that are shown, by their location in the files; the others are counted."""

MAX_ERRORS_SHOWN = 3
"""Errors of one problem document."""

_COLUMNS = {
    "/customer": "customer_name",
    "/customer/name": "customer_name",
    "/customer/contact_ref": "customer_contact_ref",
}
_IDENTIFIER = "must be 1 to 64 of letters, digits and . _ : -, a letter or digit first"
_PATTERNS = {
    "/customer/name": "must not hold control characters",
    "/customer/contact_ref": "must not hold control characters",
}
_PYDANTIC_SUBJECT = re.compile(r"^(String|Input|Value|List|Dictionary) should")
_REPLACEMENTS = {"Field required": "is missing", "Extra inputs are not permitted": "has no place here"}

Entry = tuple[int, int, str]
"""Number of the file, line, and text."""


@dataclass(slots=True)
class Summary:
    """Counts of all records by result: applied, duplicate, existing, held, rejected, not sent, undecided."""

    orders: int = 0
    """Decided creates."""
    updates: int = 0
    """Decided updates, without inferred ones."""
    applied: int = 0
    duplicate: int = 0
    existing: int = 0
    """Orders and statuses of flat rows that existed before."""
    held: int = 0
    """Updates that came too early and wait for what comes before them."""
    inferred: int = 0
    """Inferred transitions that were applied."""
    rejected: Counter[str] = field(default_factory=Counter)
    """By slug of the problem."""
    replayed: int = 0
    """Rejected records with the outcome of an earlier request with the same update id."""
    not_sent: Counter[str] = field(default_factory=Counter)
    """By reason."""
    repeated: int = 0
    """Creates of flat rows that repeat an earlier one of the same order."""
    undecided: int = 0
    """Records that were read, but not decided before the load ended."""
    headers: Mapping[int, Header] = field(default_factory=dict)
    shown: list[Entry] = field(default_factory=list)
    """Sorted, at most `MAX_SHOWN`."""
    merged: int = 0
    """Refusals that are identical to a shown one of the same row."""
    last_not_sent: Entry | None = None
    started: float = field(default_factory=monotonic)

    @property
    def decided(self) -> int:
        """Records with an outcome."""
        return self.orders + self.updates

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return monotonic() - self.started

    @property
    def is_complete(self) -> bool:
        """True if every record has its effect, or will have it once what it waits for has come."""
        return not (self.rejected or self.not_sent or self.undecided)

    def add_fault(self, record: Record) -> None:
        """Counts a record with a fault."""
        if record.fault is not None:
            self.add_not_sent(record.location, record.fault.reason, record.fault.line())

    def add_not_sent(self, location: Location, reason: str, text: str) -> None:
        """Counts a record that is not sent. A fault of both operations of a row counts once."""
        entry = (location.file_number, location.line, f"{location}: {text}")
        if entry != self.last_not_sent:
            self.not_sent[reason] += 1
            self._show(entry)
        self.last_not_sent = entry

    def add_existing(self, record: Record) -> None:
        """Counts an order, or a status of it, that existed before."""
        self._count(record)
        self.existing += 1

    def add_result(self, record: Record, result: Result) -> None:
        """Counts a decided operation, and an inferred one only if it was applied."""
        if record.kind == "inferred":
            self.inferred += result["outcome"] == "applied"
            return
        self._count(record)
        if result["outcome"] == "applied":
            self.applied += 1
        elif result["outcome"] == "duplicate":
            self.duplicate += 1
        elif result["outcome"] == "held":
            self.held += 1
        else:
            self._add_refusal(record, result)

    def _count(self, record: Record) -> None:
        if record.creates:
            self.orders += 1
        else:
            self.updates += 1

    def _add_refusal(self, record: Record, result: Result) -> None:
        problem = result["problem"]
        self.rejected[problem["type"].rpartition("/")[2]] += 1
        text = problem_text(problem, record.operation, self.headers.get(record.location.file_number))
        if result.get("replayed"):
            self.replayed += 1
            text = f"refused before, and not decided again: {text}"
        location = record.location
        self._show((location.file_number, location.line, f"{location}: {text}"))

    def _show(self, entry: Entry) -> None:
        if entry in self.shown:
            self.merged += 1
        elif len(self.shown) < MAX_SHOWN or entry < self.shown[-1]:
            insort(self.shown, entry)
            del self.shown[MAX_SHOWN:]


def describe(summary: Summary) -> str:
    """The result of a load in a few lines."""
    rate = summary.decided / max(summary.seconds, 0.001)
    lines = [
        f"orders {summary.orders:,}, updates {summary.updates:,}:"
        f" applied {summary.applied:,}, duplicate {summary.duplicate:,},"
        + (f" there already {summary.existing:,}," if summary.existing else "")
        + (f" held {summary.held:,}," if summary.held else "")
        + f" rejected {summary.rejected.total():,}{_by_reason(summary.rejected)}"
    ]
    if summary.inferred:
        lines.append(f"steps inferred on the way to a status: {summary.inferred:,}")
    if summary.replayed:
        lines.append(
            f"of those rejected, refused by an earlier request and not decided again: {summary.replayed:,}"
        )
    if summary.not_sent:
        lines.append(f"not sent: {summary.not_sent.total():,}{_by_reason(summary.not_sent)}")
    if summary.undecided:
        lines.append(
            f"not decided, as the load ended before: {summary.undecided:,}; load the same files again"
        )
    lines += _examples(summary)
    lines.append(f"{summary.seconds:.1f} s, {rate:,.0f} operations/s")
    return "\n".join(lines)


def describe_check(summary: Summary) -> str:
    """The result of a dry run in a few lines."""
    faults = summary.not_sent.total()
    found = "no faults" if not faults else f"faults {faults:,}{_by_reason(summary.not_sent)}"
    head = f"dry run, nothing was sent: orders {summary.orders:,}, updates {summary.updates:,}: {found}"
    return "\n".join([head, *_examples(summary)])


def _by_reason(counts: Counter[str]) -> str:
    most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    text = ", ".join(f"{count:,} {reason}" for reason, count in most_first)
    return f" ({text})" if text else ""


def _examples(summary: Summary) -> list[str]:
    lines = [f"  {line}" for _, _, line in summary.shown]
    more = summary.rejected.total() + summary.not_sent.total() - summary.merged - len(lines)
    return [*lines, f"  and {more:,} more"] if more > 0 else lines


def error_line(error: Mapping[str, Any], operation: Operation, header: Header | None) -> str:
    """One validation error (`pointer` and `message`), with the column and the value of the file."""
    pointer = str(error.get("pointer", ""))
    target = _COLUMNS.get(pointer) or pointer.removeprefix("/")
    column = header.name_of(target) if header else target
    value = _value_at(operation, pointer)
    shown = "" if value is None or isinstance(value, dict) else f" {quoted(str(value))}"
    return f"{printable(column)}{shown}: {plain_message(str(error.get('message', '')), pointer)}".lstrip(": ")


def plain_message(message: str, pointer: str) -> str:
    """A validation message without the name of an error class or a regular expression."""
    if "pattern" in message:
        return _PATTERNS.get(pointer, _IDENTIFIER)
    plain = _REPLACEMENTS.get(message, message.removeprefix("Value error, "))
    return printable(_PYDANTIC_SUBJECT.sub("must", plain))


def problem_text(problem: Mapping[str, Any], operation: Operation, header: Header | None) -> str:
    """The reason of a refusal: the first validation errors, or else the detail of the problem."""
    errors = problem.get("errors") or []
    text = "; ".join(error_line(error, operation, header) for error in errors[:MAX_ERRORS_SHOWN])
    return text or printable(str(problem.get("detail") or problem.get("title") or ""))


def _value_at(operation: Operation, pointer: str) -> object:
    value: object = operation
    for part in pointer.split("/")[1:]:
        value = value.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(value, dict) else None
    return value
