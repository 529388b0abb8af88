"""The pages about a new field and a new type of event: each name is in the file behind it."""

import re

import pytest
from pages import ROOT, read

ITEM = re.compile(r"^- (.*?)(?=^- |^\*\*|\Z)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(\.\./([^)]+)\)")


def named_files(page: str) -> list[tuple[str, str]]:
    """Each name in code style with the path of the first file that is linked after it in its item."""
    found = []
    for item in (" ".join(item.split()) for item in ITEM.findall(read(page))):
        for name in re.finditer(r"`(\w+)`", item):
            link = LINK.search(item, name.end())
            if link and link[1].endswith((".py", ".js")):
                found.append((name[1], link[1]))
    return found


FIELD = named_files("docs/new-order-field.md")
EVENT_TYPE = named_files("docs/new-event-type.md")


@pytest.mark.parametrize(("name", "path"), [*FIELD, *EVENT_TYPE])
def test_a_name_is_in_the_file_that_the_page_links(name: str, path: str) -> None:
    assert re.search(rf"\b{name}\b", (ROOT / path).read_text()), f"{path}: {name}"


def test_the_pages_name_enough() -> None:
    assert len(FIELD) > 20
    assert len(EVENT_TYPE) > 20
