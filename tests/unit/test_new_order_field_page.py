"""The page about a new field of an order against the code: each name is in the file behind it."""

import re

import pytest
from pages import ROOT, read

PAGE = read("docs/new-order-field.md")
ITEMS = [
    " ".join(item.split()) for item in re.findall(r"^- (.*?)(?=^- |^\*\*|\Z)", PAGE, re.MULTILINE | re.DOTALL)
]
LINK = re.compile(r"\[[^\]]+\]\(\.\./([^)]+)\)")


def named_files() -> list[tuple[str, str]]:
    """Each name in code style with the path of the first file that is linked after it in its item."""
    found = []
    for item in ITEMS:
        for name in re.finditer(r"`(\w+)`", item):
            link = LINK.search(item, name.end())
            if link and link[1].endswith((".py", ".js")):
                found.append((name[1], link[1]))
    return found


@pytest.mark.parametrize(("name", "path"), named_files())
def test_a_name_is_in_the_file_that_the_page_links(name: str, path: str) -> None:
    assert re.search(rf"\b{name}\b", (ROOT / path).read_text()), f"{path}: {name}"


def test_the_page_names_enough() -> None:
    assert len(named_files()) > 20
