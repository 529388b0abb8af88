"""The page on sizing: its figures are those that were measured, and its arithmetic holds."""

import pytest
from pages import read, section, tables

PAGE = read("docs/sizing.md")
SECONDS = {"ms": 1e-3, "µs": 1e-6}
ROWS = tables(section(PAGE, "## What one replica carries"))[0]


def number(text: str) -> float:
    """Of a cell: digits with commas."""
    return float(text.replace(",", ""))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['replica']}: {row['one unit']}")
def test_a_replica_carries_what_its_processor_time_allows(row: dict[str, str]) -> None:
    cost, unit = row["costs"].split()
    carried = number(row["carries at 0.8 cores"].removesuffix("/s"))
    assert carried == pytest.approx(0.8 / (number(cost) * SECONDS[unit]), rel=0.01)


@pytest.mark.parametrize(
    "figure",
    ["ingest 0.36 ms", "order-state 0.27", "ingest 0.06", "order-state 0.11", "1,447/s", "3,826/s", "7.0 µs",
     "1.0 µs", "16.5 KB", "1.05 ms", "0.35 ms", "3.5 s"],
)  # fmt: skip
def test_a_figure_is_the_measured_one(figure: str) -> None:
    assert figure in read("docs/performance.md")
    value = next(word for word in figure.removesuffix("/s").split() if word[0].isdigit())
    assert value in PAGE
