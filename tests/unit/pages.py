"""The pages of the documentation, and what tests look for in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tests/data").rglob("*.md")],
)

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read(path: str) -> str:
    """A page by its path in the project."""
    return (ROOT / path).read_text()


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks in one language."""
    return [body for found, body in _FENCE.findall(text) if found == language]


def code(text: str) -> list[str]:
    """Everything that is set as code: the lines of the fenced blocks, and the spans in the text."""
    lines = [line for _, body in _FENCE.findall(text) for line in body.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of the same or a higher level."""
    level = len(heading) - len(heading.lstrip("#"))
    after = text.split(f"\n{heading}\n", 1)[1]
    return re.split(rf"^#{{1,{level}}} ", after, maxsplit=1, flags=re.MULTILINE)[0]


def tables(text: str) -> list[list[dict[str, str]]]:
    """The tables, each as a list of rows by column. Code marks are removed."""
    found = []
    for table in re.findall(r"(?:^\|.*\|\n)+", text + "\n", re.MULTILINE):
        header, _, *rows = [_cells(line) for line in table.splitlines()]
        found.append([dict(zip(header, row, strict=True)) for row in rows])
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]


def anchors(text: str) -> set[str]:
    """The anchors of the headings, as renderers make them."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
