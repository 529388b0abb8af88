"""The glossary against the code: each file and each name in it exists."""

import re

import pytest
from pages import ROOT, read, tables

PAGE = "docs/glossary.md"
ROWS = tables(read(PAGE))[0]
LINK = re.compile(r"\[(\w+)\]\(([^)]+)\)")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: re.findall(r"\*\*(.*?)\*\*", row["term"])[0])
def test_the_types_and_the_code_of_a_term_exist(row: dict[str, str]) -> None:
    assert row["type"] in ("str", "int") or LINK.search(row["type"])
    assert LINK.search(row["decided in"])
    for name, path in LINK.findall(row["type"] + row["decided in"]):
        source = (ROOT / "docs" / path).read_text()
        definition = rf"^(class |def |async def ){name}\b|^{name}\b[^\n]* = "
        assert re.search(definition, source, re.MULTILINE), f"{path}: {name}"


def test_the_glossary_fits_on_one_screen() -> None:
    assert 20 < len(ROWS) < 40
