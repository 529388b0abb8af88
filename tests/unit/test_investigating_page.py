"""The page of complaints against the code: its routes, metrics, problems, log lines and facts exist."""

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from pages import ROOT, blocks, code, read, section, tables

from openapi_checks import document_of, resolved
from tracking_notifier.session.catchup import Subscription
from tracking_notifier.session.session_log import SessionEnd, SessionRecord, session_line
from tracking_notifier.stream.filters import Audience, Filter
from tracking_shared.contracts.access import Grant, Principal
from tracking_shared.contracts.problems import CATALOGUE

PAGE = read("docs/investigating.md")
OPERATIONS = read("docs/operations.md")
QUERY, NOTIFIER = "8002", "8003"


def sources() -> str:
    roots = [ROOT / "services", ROOT / "shared"]
    return "\n".join(path.read_text() for root in roots for path in sorted(root.rglob("src/**/*.py")))


def parameters_of(path: str) -> set[str]:
    """The query parameters of a route of query."""
    described: dict[str, Any] = document_of("query")["paths"]
    patterns = {re.sub(r"\{\w+\}", "[^/]+", template): template for template in described}
    [template] = [found for pattern, found in patterns.items() if re.fullmatch(pattern, path)]
    given = described[template]["get"].get("parameters", [])
    return {resolved("query", one)["name"] for one in given}


def test_every_route_that_is_asked_exists_with_its_parameters() -> None:
    asked = re.findall(r"localhost:(\d+)(/[^\s'\"`]+)", PAGE)
    assert len(asked) > 5
    for port, target in asked:
        url = urlsplit(target)
        if port == NOTIFIER:
            assert url.path == "/readyz"
            continue
        assert port == QUERY, target
        asked_for = {pair.partition("=")[0] for pair in url.query.split("&") if pair}
        assert asked_for <= parameters_of(url.path), target


def test_every_metric_that_is_named_is_in_the_table() -> None:
    documented = {row["metric"] for row in tables(section(OPERATIONS, "## Metrics"))[0]}
    named = {name for span in code(PAGE) for name in re.findall(r"\btracking_[a-z]+(?:_[a-z]+)+", span)}
    assert len(named) > 5
    assert named <= documented


@pytest.mark.parametrize(
    "line",
    ["message dropped", "the log was replaced or set back", "connection closed", "catching up failed"],
)
def test_the_log_lines_to_look_for_are_written(line: str) -> None:
    assert f"`{line}`" in " ".join(PAGE.split())
    assert line in sources()


@pytest.mark.parametrize("page", ["docs/runbook.md", "docs/operations.md"])
def test_the_log_line_of_a_silent_broker_is_the_one_that_is_written(page: str) -> None:
    assert "`it delivers nothing, though the log grows`" in " ".join(read(page).split())
    assert "it delivers nothing, though the log grows" in sources()


def test_every_problem_that_is_named_exists() -> None:
    assert {span for span in code(PAGE) if span in CATALOGUE} == {
        "update-not-found",
        "invalid-transition",
        "version-conflict",
        "order-not-found",
        "idempotency-key-reused",
        "cursor-expired",
        "invalid-cursor",
    }


def test_the_facts_of_a_session_are_those_of_the_table_in_their_order() -> None:
    grant = Grant(merchants=frozenset("*"))
    principal = Principal(
        subject="driver-17", source_type="driver", scopes=frozenset(), grant=grant, expires_at=2e9
    )
    record = SessionRecord(0.0)
    record.add_subscription(Subscription(Audience(grant, Filter()), None, snapshot=True))
    facts = re.findall(
        r"(\w+)=(\S+)", session_line(principal, record, SessionEnd("", 1000, 1.0, "websocket"))
    )
    part = section(OPERATIONS, "#### Stream sessions")
    names = [name for row in tables(part)[0] for name in row["fact"].split(", ")]
    assert names == [name for name, _ in facts]
    [example] = blocks(part, "")
    assert re.findall(r"(\w+)=", example) == names
    assert f"subject={dict(facts)['subject']}" in example
