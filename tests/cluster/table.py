"""The table of `docs/reliability.md`, one row for each scenario and address mode. Pure.

A run writes the rows that it ran, and leaves the others with the date and the versions that they have.
"""

from collections.abc import Iterable

from cluster.verdict import Outcome, misses

BEGIN = "<!-- begin: written by make test-cluster -->"
END = "<!-- end -->"

HEADER = (
    "| fault | address | accepted: longest pause | decided: longest pause | bar "
    "| lost, repeated, reordered | dashboards that noticed | by itself | verdict | run |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def row(outcome: Outcome, run: str) -> str:
    """`run`: date and versions."""
    missed = list(misses(outcome))
    verdict = f"**missed**: {'; '.join(missed)}" if missed else "met"
    if outcome.note:
        verdict += f" ({outcome.note})"
    bar = outcome.bar
    cells = (
        outcome.scenario,
        outcome.mode,
        f"{outcome.accepted_seconds:.1f} s",
        f"{outcome.decided_seconds:.1f} s",
        f"{bar.accepted_seconds:.0f} s, {bar.decided_seconds:.0f} s",
        f"{outcome.lost}, {outcome.repeated}, {outcome.reordered}",
        f"{outcome.noticed} of {outcome.dashboards}",
        "yes" if outcome.recovered_alone else "**no**",
        verdict,
        run,
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def table(rows: Iterable[str]) -> str:
    """With its header."""
    return "\n".join((HEADER, *rows))


def with_rows(page: str, rows: Iterable[str], order: list[tuple[str, str]]) -> str:
    """The page with these rows in its table, in the order of the scenarios and modes named.

    Rows that are not named any more go.

    Raises:
        ValueError: the page has no markers.
    """
    head, begin, rest = page.partition(BEGIN)
    former, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no table between {BEGIN} and {END}")
    known = {_key(line): line for line in former.splitlines() if line.startswith("| ")}
    known |= {_key(line): line for line in rows}
    kept = [known[key] for key in order if key in known]
    return f"{head}{BEGIN}\n\n{table(kept)}\n\n{END}{tail}"


def _key(line: str) -> tuple[str, str]:
    cells = [cell.strip() for cell in line.split("|")]
    return cells[1], cells[2]
