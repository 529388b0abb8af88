"""What became of everything that was read: counts, and the first few refusals and faults."""

from bisect import insort
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic

from tracking.batch_client import Result
from tracking.load.header import Header
from tracking.load.records import Place, Record
from tracking.load.wording import problem_text

MAX_SHOWN = 20
"""Of what was not sent or was refused, by its place in the files; what is beyond is counted."""


Entry = tuple[int, int, str]
"""Number of the file, line, and what is told of it."""


@dataclass(slots=True)
class Summary:
    """Counts. What is not applied, a duplicate or there already was refused, left out, or is not decided."""

    orders: int = 0
    """Creates that were decided."""
    updates: int = 0
    """Updates that were decided, those inferred aside."""
    applied: int = 0
    duplicate: int = 0
    existing: int = 0
    """Orders and statuses of flat rows that were there already."""
    inferred: int = 0
    """Steps that no file names and that were applied."""
    rejected: Counter[str] = field(default_factory=Counter)
    """By the slug of the problem."""
    replayed: int = 0
    """Of the rejected ones: the answer of an earlier load or request with the same update id."""
    left_out: Counter[str] = field(default_factory=Counter)
    """What was never sent, by reason."""
    repeated: int = 0
    """Creates of flat rows that say the same as an earlier one of the same order."""
    undecided: int = 0
    """Read, and neither sent nor decided because the load ended before."""
    headers: Mapping[int, Header] = field(default_factory=dict)
    shown: list[Entry] = field(default_factory=list)
    """Sorted, at most `MAX_SHOWN`."""
    merged: int = 0
    """Refusals that say the same of the same row as another one that is shown."""
    last_left_out: Entry | None = None
    started: float = field(default_factory=monotonic)

    @property
    def decided(self) -> int:
        """Records with a final outcome."""
        return self.orders + self.updates

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return monotonic() - self.started

    @property
    def is_complete(self) -> bool:
        """Whether everything that was read has its effect."""
        return not (self.rejected or self.left_out or self.undecided)

    def add_fault(self, record: Record) -> None:
        """Counts a record that is not sent."""
        if record.fault is not None:
            self.add_left_out(record.place, record.fault.reason, record.fault.line())

    def add_left_out(self, place: Place, reason: str, told: str) -> None:
        """Counts what is not sent, by its reason. A fault that both operations of a row have is one."""
        entry = (place.file_number, place.line, f"{place}: {told}")
        if entry != self.last_left_out:
            self.left_out[reason] += 1
            self._show(entry)
        self.last_left_out = entry

    def add_existing(self, record: Record) -> None:
        """Counts an order, or a status of it, that was there already."""
        self._count(record)
        self.existing += 1

    def add_result(self, record: Record, result: Result) -> None:
        """Counts an operation that was decided. An inferred one counts where it was applied."""
        if record.kind == "inferred":
            self.inferred += result["outcome"] == "applied"
            return
        self._count(record)
        if result["outcome"] == "applied":
            self.applied += 1
        elif result["outcome"] == "duplicate":
            self.duplicate += 1
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
        said = problem_text(problem, record.operation, self.headers.get(record.place.file_number))
        if result.get("replayed"):
            self.replayed += 1
            said = f"refused before, and not decided again: {said}"
        place = record.place
        self._show((place.file_number, place.line, f"{place}: {said}"))

    def _show(self, entry: Entry) -> None:
        if entry in self.shown:
            self.merged += 1
        elif len(self.shown) < MAX_SHOWN or entry < self.shown[-1]:
            insort(self.shown, entry)
            del self.shown[MAX_SHOWN:]
