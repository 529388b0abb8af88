"""What a person sees of a load: which files, a bar with rate and remaining time, a summary."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Literal

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

from tracking.load import OnDecided, Summary
from tracking.olist import orders_file, read_olist
from tracking.records import Record, UnreadableFile, read_csv, read_ndjson

Format = Literal["auto", "ndjson", "csv", "olist"]

_READERS = {".csv": read_csv, ".ndjson": read_ndjson, ".jsonl": read_ndjson}


def records_in(paths: list[Path], file_format: Format) -> Iterator[Record]:
    """The records of all files, one file after another.

    Raises:
        UnreadableFile: a file does not exist, or its name says nothing of its format.
    """
    for path in paths:
        if not path.is_file():
            raise UnreadableFile(f"{path}: no such file")
    if file_format == "olist":
        return read_olist(paths)
    return chain.from_iterable(_read(path, file_format) for path in paths)


def _read(path: Path, file_format: Format) -> Iterator[Record]:
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    suffix = f".{file_format}" if file_format != "auto" else "".join(suffixes[-1:])
    reader = _READERS.get(suffix)
    if reader is None:
        raise UnreadableFile(f"{path}: say what it is with --format csv, ndjson or olist")
    return reader(path)


def input_bytes(paths: list[Path], file_format: Format) -> int:
    """What the progress of the records adds up to."""
    counted = [orders_file(paths)] if file_format == "olist" else paths
    return sum(path.stat().st_size for path in counted)


class _Rate(ProgressColumn):
    def __init__(self, summary: Summary) -> None:
        super().__init__()
        self._summary = summary

    def render(self, task: Task) -> Text:
        rate = self._summary.decided / max(self._summary.seconds, 0.001)
        return Text(f"{self._summary.decided:,} decided, {rate:,.0f}/s")


@contextmanager
def progress_bar(total_bytes: int, summary: Summary) -> Iterator[OnDecided]:
    """Shows a bar on the terminal while the body runs. Give it each record that is through."""
    columns = (
        TextColumn("loading"),
        BarColumn(),
        TaskProgressColumn(),
        _Rate(summary),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("load", total=total_bytes)
        yield lambda record: progress.advance(task, record.input_bytes)


def describe(summary: Summary) -> str:
    """The summary in a few lines."""
    rate = summary.decided / max(summary.seconds, 0.001)
    rejected = ", ".join(f"{count:,} {slug}" for slug, count in summary.rejected.most_common())
    lines = [
        f"orders {summary.orders:,}, updates {summary.updates:,}:"
        f" applied {summary.applied:,}, duplicate {summary.duplicate:,},"
        f" rejected {summary.rejected.total():,}" + (f" ({rejected})" if rejected else ""),
    ]
    if summary.unreadable:
        lines.append(f"not readable, not sent: {summary.unreadable:,}")
    lines += [f"  {example}" for example in summary.examples]
    lines.append(f"{summary.seconds:.1f} s, {rate:,.0f} operations/s")
    return "\n".join(lines)
