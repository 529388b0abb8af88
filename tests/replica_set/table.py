"""The table of a campaign for the page about reliability. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

BEGIN = "<!-- begin: written by make test-replica-set -->"
END = "<!-- end: of make test-replica-set -->"


class Told(Protocol):
    """What the table says of a round."""

    drawn: Counter[tuple[str, str]]
    set_events: Counter[str]
    answered: int
    faults: list[str]


def table(rounds: Sequence[Told]) -> str:
    """How often each fault was met, and what the judges found."""
    drawn: Counter[tuple[str, str]] = Counter()
    changes: Counter[str] = Counter()
    for each in rounds:
        drawn += each.drawn
        changes += each.set_events
    rows = [("the set", name, changes[name]) for name in ("step-down", "crash", "isolation", "stale read")]
    rows += [(kind, name, number) for (kind, name), number in sorted(drawn.items())]
    found = sum(len(each.faults) for each in rounds)
    lines = ["| what | fault | times |", "|---|---|---|"]
    lines += [f"| {kind} | {name} | {number} |" for kind, name, number in rows]
    total = sum(number for _, _, number in rows)
    lines.append(
        f"| all | in {len(rounds)} rounds, {sum(each.answered for each in rounds)} reports | {total} |"
    )
    lines.append(f"| judges | lost, repeated, reordered, wrongly shown or not indexed | {found} |")
    return "\n".join(lines)


def with_table(page: str, text: str) -> str:
    """The page with this table between its markers.

    Raises:
        ValueError: it has no markers.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no table between {BEGIN} and {END}")
    return f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}"
