"""What the scenes measured, and the rows of the table. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tracking.upkeep.checker import Acknowledged

BEGIN = "<!-- begin: written by make test-containers -->"
END = "<!-- end: containers -->"
LATER = "later"
"""Instead of what `tracking check` said: it is run after one of the next scenes, and reads everything."""

HEADER = (
    "| what | acknowledged | stopped | 503 | others | lost or changed | check | verdict | run |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one scene."""

    title: str
    acknowledged: int
    stopped_seconds: float
    """Longest time without an acknowledged update."""
    stopped_bar_seconds: float
    refused: int
    odd: int
    lost: int
    check: str
    """What `tracking check` said: `no faults`, if all is well, or `LATER`."""
    faults: list[str] = field(default_factory=list)
    """What else was wrong."""


def misses(outcome: Outcome) -> Iterator[str]:
    """Each bar that was missed, in words."""
    if outcome.stopped_seconds > outcome.stopped_bar_seconds:
        yield f"stopped for {outcome.stopped_seconds:.1f} s (bar: {outcome.stopped_bar_seconds:.0f} s)"
    if outcome.odd:
        yield f"other answers: {outcome.odd}"
    if outcome.lost:
        yield f"lost or changed: {outcome.lost}"
    if outcome.check not in ("no faults", LATER):
        yield f"check: {outcome.check}"
    yield from outcome.faults


def contradiction(ack: Acknowledged, status: int, body: Any) -> str | None:
    """Why what is read of an update is not what was acknowledged, or None."""
    if status != 200:
        return f"read with {status}"
    outcome, version = body.get("outcome"), body.get("version")
    if ack.outcome == "accepted":
        return None if outcome in ("applied", "rejected") else f"read as {outcome}"
    expected = "rejected" if ack.outcome == "rejected" else "applied"
    if outcome != expected:
        return f"read as {outcome}"
    if expected == "applied" and version != ack.version:
        return f"read with version {version}"
    return None


def row(outcome: Outcome, run: str) -> str:
    """`run`: date and versions."""
    missed = "; ".join(misses(outcome)).replace("|", "/").replace("\n", " ")
    cells = (
        outcome.title,
        f"{outcome.acknowledged:,}",
        f"{outcome.stopped_seconds:.1f} s",
        f"{outcome.refused:,}",
        f"{outcome.odd}",
        f"{outcome.lost}",
        outcome.check,
        f"**missed**: {missed[:200]}" if missed else "met",
        run,
    )
    return f"| {' | '.join(cells)} |"


def table(rows: Iterable[str]) -> str:
    """With its header."""
    return "\n".join((HEADER, *rows))


def with_rows(page: str, rows: Iterable[str], titles: list[str]) -> str:
    """The page with these rows in its table, in the order of the titles; former rows of other titles go.

    Raises:
        ValueError: the page has no markers.
    """
    head, begin, rest = page.partition(BEGIN)
    former, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no table between {BEGIN} and {END}")
    known = {_title(line): line for line in former.splitlines() if line.startswith("| ")}
    known |= {_title(line): line for line in rows}
    return f"{head}{BEGIN}\n\n{table(known[title] for title in titles if title in known)}\n\n{END}{tail}"


def _title(line: str) -> str:
    return line.split("|")[1].strip()
