"""CSV that every reader reads back, and that no spreadsheet runs."""

import csv
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking_query.orders.tables import csv_lines

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def read_back(lines: bytes) -> list[list[str]]:
    return list(csv.reader(StringIO(lines.decode(), newline=""), strict=True))


@given(st.lists(st.lists(TEXT, min_size=2, max_size=4), max_size=5))
def test_what_was_written_is_read_back(rows: list[list[str]]) -> None:
    read = read_back(csv_lines(rows))
    assert [[cell.removeprefix("'") for cell in row] for row in read] == [
        [cell.removeprefix("'") for cell in row] for row in rows
    ]


@given(st.lists(TEXT, min_size=2))
def test_no_cell_starts_as_a_formula_does(row: list[str]) -> None:
    assert not any(cell.startswith(tuple("=+-@\t\r\n")) for cell in read_back(csv_lines([row]))[0])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("=1+1", "'=1+1"),
        ("+49 30 1", "'+49 30 1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", '"\'\r=1"'),
        ("＝1", "'＝1"),  # noqa: RUF001
        ('say "hi", Ada', '"say ""hi"", Ada"'),
        ("a=1", "a=1"),
        ("Ünal", "Ünal"),
    ],
)
def test_a_formula_becomes_a_text(text: str, line: str) -> None:
    assert csv_lines([[text, "x"]]) == f"{line},x\r\n".encode()


def test_other_values_are_written_plainly() -> None:
    assert csv_lines([[-1, 2.5, True, False, None, ""]]) == b"-1,2.5,true,false,,\r\n"
