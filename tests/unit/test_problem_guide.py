"""The error catalogue against the code: every refusal that the code can make has its page."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import ROOT, read

from tracking_query.pages.problem_pages import overview_document, page_document
from tracking_shared.contracts.problems import CATALOGUE, MEMBERS, problem_example

SOURCES = sorted(
    path
    for folder in (ROOT / "shared/src", ROOT / "services", ROOT / "deploy/src")
    for path in folder.rglob("*.py")
)

ALWAYS = {"type", "title", "status", "detail", "instance", "trace_id"}
OF_EVERY_UPDATE = {"update_id", "order_id"}

each_slug = pytest.mark.parametrize("slug", CATALOGUE)


def refusals() -> Iterator[tuple[Path, str, set[str]]]:
    """Every place of the code that makes a problem with a slug of its own: file, slug, members."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and called(node) in ("Problem", "ProblemError"):
                if slug := text_of(node.args[0] if node.args else None):
                    yield path, slug, members_of(node)
            elif isinstance(node, ast.Dict) and (slug := text_of(value_of(node, "slug"))):
                yield path, slug, keys_of(value_of(node, "members"))


def called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def members_of(node: ast.Call) -> set[str]:
    named = {keyword.arg for keyword in node.keywords if keyword.arg} - {"headers", "own_headers", "members"}
    return named | (keys_of(node.args[2]) if len(node.args) > 2 else set())


def text_of(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def value_of(node: ast.Dict, name: str) -> ast.expr | None:
    pairs = zip(node.keys, node.values, strict=True)
    return next((value for key, value in pairs if text_of(key) == name), None)


def keys_of(node: ast.expr | None) -> set[str]:
    return {text_of(key) for key in node.keys} - {""} if isinstance(node, ast.Dict) else set()


def test_every_slug_has_its_page_and_no_page_is_left_over() -> None:
    listed = [problem["type"] for problem in overview_document()["problems"]]
    assert listed == [page_document(slug)["type"] for slug in CATALOGUE]


def test_every_refusal_in_the_code_is_in_the_catalogue_with_its_members() -> None:
    found = list(refusals())
    assert len(found) > 40
    for path, slug, members in found:
        assert slug in CATALOGUE, f"{path}: {slug}"
        assert members <= {*CATALOGUE[slug].members, *OF_EVERY_UPDATE}, f"{path}: {slug} carries {members}"


def test_every_slug_is_used() -> None:
    assert {slug for _, slug, _ in refusals()} == CATALOGUE.keys()


@each_slug
def test_an_example_carries_what_its_page_describes(slug: str) -> None:
    document = problem_example(slug)
    assert document["type"] == f"/problems/{slug}"
    assert document.keys() >= ALWAYS
    assert document.keys() - ALWAYS <= {*CATALOGUE[slug].members, *OF_EVERY_UPDATE}


@each_slug
def test_a_page_says_what_to_do(slug: str) -> None:
    page = page_document(slug)
    assert len(page["meaning"]) > 20
    assert len(page["advice"]) > 20
    assert page["members"].keys() <= MEMBERS.keys()
    assert page["repeat"] == ("later" if page["status"] in (408, 429, 500, 503) else page["repeat"])
    for text in (page["meaning"], page["advice"], *page["members"].values()):
        assert text.count("`") % 2 == 0


def test_the_page_of_the_documentation_is_generated_from_the_code() -> None:
    path = ROOT / "docs/problems_page.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert read("docs/problems.md") == generator.page(), "write it anew: make docs"
