"""What a person sees of a load: a bar with rate and remaining time, and what became of it in a few lines."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from tracking.load.sender import OnDecided
from tracking.load.summary import Summary


class _Rate(ProgressColumn):
    def __init__(self, summary: Summary) -> None:
        super().__init__()
        self._summary = summary

    def render(self, task: Task) -> Text:
        rate = self._summary.decided / max(self._summary.seconds, 0.001)
        return Text(f"{self._summary.decided:,} decided, {rate:,.0f}/s")


@contextmanager
def progress_bar(total: int, summary: Summary) -> Iterator[OnDecided]:
    """Shows a bar on the terminal while the body runs: how much of `total` the summary has."""
    columns = (
        TextColumn("loading"),
        BarColumn(),
        TaskProgressColumn(),
        _Rate(summary),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("load", total=total)
        yield lambda: progress.update(task, completed=summary.decided + summary.repeated)
        progress.update(task, completed=summary.decided + summary.repeated)


def describe(summary: Summary) -> str:
    """The summary in a few lines."""
    rate = summary.decided / max(summary.seconds, 0.001)
    lines = [
        f"orders {summary.orders:,}, updates {summary.updates:,}:"
        f" applied {summary.applied:,}, duplicate {summary.duplicate:,},"
        + (f" there already {summary.existing:,}," if summary.existing else "")
        + f" rejected {summary.rejected.total():,}{_by_reason(summary.rejected)}"
    ]
    if summary.inferred:
        lines.append(f"steps inferred on the way to a status: {summary.inferred:,}")
    if summary.replayed:
        lines.append(
            f"of those rejected, refused by an earlier request and not decided again: {summary.replayed:,}"
        )
    if summary.left_out:
        lines.append(f"not sent: {summary.left_out.total():,}{_by_reason(summary.left_out)}")
    if summary.undecided:
        lines.append(
            f"not decided, as the load ended before: {summary.undecided:,}; load the same files again"
        )
    lines += _examples(summary)
    lines.append(f"{summary.seconds:.1f} s, {rate:,.0f} operations/s")
    return "\n".join(lines)


def describe_check(summary: Summary) -> str:
    """What a dry run found, in a few lines."""
    faults = summary.left_out.total()
    found = "no faults" if not faults else f"faults {faults:,}{_by_reason(summary.left_out)}"
    head = f"dry run, nothing was sent: orders {summary.orders:,}, updates {summary.updates:,}: {found}"
    return "\n".join([head, *_examples(summary)])


def _by_reason(counts: Counter[str]) -> str:
    most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    told = ", ".join(f"{count:,} {reason}" for reason, count in most_first)
    return f" ({told})" if told else ""


def _examples(summary: Summary) -> list[str]:
    lines = [f"  {line}" for _, _, line in summary.shown]
    more = summary.rejected.total() + summary.left_out.total() - summary.merged - len(lines)
    return [*lines, f"  and {more:,} more"] if more > 0 else lines
