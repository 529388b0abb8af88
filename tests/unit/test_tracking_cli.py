"""Arguments of the command line."""

import sys

import pytest
import typer
from typer.testing import CliRunner

from tracking.cli import app, main
from tracking.stack_commands import parse_replicas


def test_replicas_by_service() -> None:
    assert parse_replicas(["ingest=2", "order-state=3"]) == {"ingest": 2, "order-state": 3}


@pytest.mark.parametrize(
    "text", ["ingest", "ingest=", "ingest=0", "ingest=17", "ingest=-1", "broker=2", "=2"]
)
def test_replicas_that_make_no_sense(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_replicas([text])


@pytest.mark.parametrize(
    "command", ["up", "demo", "token", "revoke", "tail", "load", "check", "parked", "dead"]
)
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])

    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_the_help_of_load_names_the_formats() -> None:
    text = CliRunner().invoke(app, ["load", "--help"]).output

    assert all(word in text for word in ("ndjson", "customer_contact_ref", "olist"))


@pytest.mark.parametrize(
    "arguments", [["up", "--ingest-port", "70000"], ["load"], ["token"], ["tail", "--url", "http://x"]]
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("nonsense", "nonsense"),
        ("up --no-such-option", "--no-such-option"),
        ("up --query-port 70000", "--query-port"),
        ("up --query-port some", "--query-port"),
        ("up --replicas broker=2", "broker=2"),
        ("token --scope orders:read", "--sub"),
        ("tail --url http://x", "--url"),
        ("load", "FILES"),
        ("report sales", "sales"),
        ("parked replay", "ORDER"),
    ],
)
def test_wrong_usage_is_told_in_one_line(
    arguments: str, named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tracking", *arguments.split()])
    with pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr()
    assert left.value.code == 2
    assert said.out == ""
    assert len(said.err.splitlines()) == 1, said.err
    assert said.err.startswith("tracking: ")
    assert named.lower() in said.err.lower()


def test_a_command_that_is_asked_for_nothing_shows_its_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tracking"])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    assert "Usage: tracking" in capsys.readouterr().out
