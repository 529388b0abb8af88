"""What the documentation says exists: links, commands, tests, programs, decisions, pinned packages."""

import json
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution, metadata
from pathlib import Path
from typing import Any

import pytest
import typer
from pages import PAGES, ROOT, anchors, blocks, code, read, tables

from tracking.cli.main import COMMANDS, app

DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
PROJECTS = [ROOT / "shared", *sorted((ROOT / "services").iterdir()), ROOT / "clients/python", ROOT / "deploy"]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):", read("Makefile"), re.MULTILINE))


def commands() -> dict[str, set[str]]:
    group: Any = typer.main.get_command(app)
    return {
        name: {option for parameter in command.params for option in parameter.opts}
        for name in COMMANDS
        for command in [group.get_command(None, name)]
    }


def direct_dependencies() -> set[str]:
    lines = [line for line in read("requirements-dev.in").splitlines() if not line.startswith("#")]
    for project in PROJECTS:
        lines += tomllib.loads((project / "pyproject.toml").read_text())["project"]["dependencies"]
    return {re.split(r"[^\w.-]", line)[0] for line in lines} - {"tracking-shared", "tracking-client"}


@each_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text()), target


@each_page
def test_a_link_that_is_named_after_a_file_leads_to_it(page: Path) -> None:
    for name, target in re.findall(r"\[(\w+\.(?:py|js|sh|yml))\]\(([^)#]+)\)", page.read_text()):
        assert Path(target).name == name, target


@each_page
def test_every_make_target_exists(page: Path) -> None:
    named = {name for line in code(page.read_text()) for name in re.findall(r"\bmake ([a-z0-9-]+)", line)}
    assert named <= targets()


@each_page
def test_every_tracking_command_and_its_options_exist(page: Path) -> None:
    known = commands()
    for line in code(page.read_text()):
        for name, rest in re.findall(r"(?:^|[\s/(])tracking ([a-z]+)\b([^|;&)]*)", line):
            assert name in known, line
            options = set(re.findall(r"(?:^|\s)(--[a-z-]+)", rest)) - {"--help"}
            assert options <= known[name], line


@each_page
def test_every_test_that_is_named_exists(page: Path) -> None:
    for path, name in re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", page.read_text()):
        assert (ROOT / path).is_file(), path
        if name:
            assert re.search(rf"^(async )?def {name}\(", read(path), re.MULTILINE), f"{path}::{name}"


@each_page
def test_every_file_that_a_command_takes_from_the_source_tree_is_there(page: Path) -> None:
    for line in "\n".join(blocks(page.read_text(), "sh")).splitlines():
        for path in re.findall(r"(?<![\w/.-])(?:deploy|docs|web|clients)/[\w./-]*[\w/]", line):
            assert (ROOT / path).exists() or path.endswith("/yours"), line  # which the reader makes


@each_page
def test_every_program_and_document_in_it_can_be_read(page: Path) -> None:
    text = page.read_text()
    for program in blocks(text, "python"):
        compile(program, page.name, "exec")
    for document in blocks(text, "json"):
        json.loads(document)


@each_page
def test_it_ends_its_lines_and_speaks_of_the_project_alone(page: Path) -> None:
    text = page.read_text()
    assert text.endswith("\n")
    assert not re.search(r"\b(TODO|FIXME|TBD|XXX)\b", text)
    assert "/work/" not in text


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda decision: decision.stem)
def test_a_decision_is_one_page_with_its_check(decision: Path) -> None:
    text = decision.read_text()
    assert text.startswith(f"# {int(decision.name[:4])}. ")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "Context",
        "Decision",
        "Consequences",
        "Enforced by",
    ]
    assert len(text.splitlines()) <= 70


def test_decisions_are_numbered_without_holes() -> None:
    assert [int(decision.name[:4]) for decision in DECISIONS] == list(range(1, len(DECISIONS) + 1))


def test_the_index_has_every_decision_with_its_title() -> None:
    [rows] = tables(read("docs/decisions/README.md"))
    titles = [decision.read_text().partition("\n")[0] for decision in DECISIONS]
    assert [(row["number"], row["decision"]) for row in rows] == [
        (f"[{int(decision.name[:4])}]({decision.name})", title.partition(". ")[2])
        for decision, title in zip(DECISIONS, titles, strict=True)
    ]


def test_every_direct_dependency_has_its_line() -> None:
    rows = dependency_rows()
    assert {row["package"] for row in rows} == direct_dependencies()
    assert all(row["what for"] and row["licence"] for row in rows)


def dependency_rows() -> list[dict[str, str]]:
    return [row for table in tables(read("docs/dependencies.md")) for row in table if "package" in row]


@pytest.mark.parametrize("package", sorted(direct_dependencies()))
def test_the_licence_of_a_dependency_is_that_of_its_metadata(package: str) -> None:
    row = next(row for row in dependency_rows() if row["package"] == package)
    assert row["licence"] in licences(package)


def licences(package: str) -> Iterator[str]:
    found = metadata(package)
    yield from (found[name] for name in ("License-Expression", "License") if name in found)
    for classifier in found.get_all("Classifier") or ():
        if classifier.startswith("License ::"):
            yield classifier.rpartition(" :: ")[2]
    for file in found.get_all("License-File") or ():
        yield (distribution(package).read_text(f"licenses/{file}") or "").partition("\n")[0]


def test_every_direct_dependency_is_locked() -> None:
    locked = set(re.findall(r"^([\w.-]+)==", read("requirements-dev.lock"), re.MULTILINE))
    assert direct_dependencies() <= locked


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-image.lock", "requirements-dev.lock"])
def test_the_locks_pin_every_package_with_hashes_and_name_no_host(lock: str) -> None:
    entries = re.split(r"\n(?=[a-z])", read(lock).strip())
    for entry in entries:
        assert re.match(r"[\w.-]+==\S+", entry), entry[:80]
        assert "--hash=sha256:" in entry, entry[:80]
    assert "://" not in read(lock)


def test_the_services_run_without_the_one_machine_stack() -> None:
    """The container image installs this lock; the embedded database and its licence stay out of it."""
    locked = set(re.findall(r"^([\w.-]+)==", read("requirements.lock"), re.MULTILINE))
    assert locked.isdisjoint({"secantusdb", "typer", "rich", "pytest"})


def test_motor_is_not_used() -> None:
    assert not re.search(r"^motor==", read("requirements-dev.lock"), re.MULTILINE)


def test_the_embedded_database_is_never_imported() -> None:
    sources = [path for project in PROJECTS for path in (project / "src").rglob("*.py")]
    assert len(sources) > 50
    for path in sources:
        assert not re.search(r"^\s*(import|from) secantus", path.read_text(), re.MULTILINE), path
