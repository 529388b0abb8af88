"""Arguments of the command line."""

import sys

import pytest
import typer
from pages import read, section, tables
from typer.testing import CliRunner

from tracking.cli.main import app, main
from tracking.cli.stack_commands import parse_replicas
from tracking.errors import CommandError, ExitCode
from tracking_client.errors import TrackingClientError
from tracking_shared.errors import SettingsError
from tracking_shared.serving import EXIT_CONFIGURATION, EXIT_UNAVAILABLE


def test_replicas_by_service() -> None:
    assert parse_replicas(["ingest=2", "order-state=3"]) == {"ingest": 2, "order-state": 3}


@pytest.mark.parametrize(
    "text", ["ingest", "ingest=", "ingest=0", "ingest=17", "ingest=-1", "broker=2", "=2"]
)
def test_replicas_that_make_no_sense(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_replicas([text])


@pytest.mark.parametrize(
    "command", ["up", "demo", "token", "revoke", "tail", "load", "check", "parked", "held", "dead"]
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


def test_the_exit_codes_of_the_page_are_those_of_the_commands() -> None:
    rows = tables(section(read("docs/operations.md"), "## Start, stop, upgrade"))[0]
    meanings = {int(row["exit code"]): row["meaning"] for row in rows}
    assert meanings == {code.value: code.meaning.replace("`", "") for code in ExitCode}


def test_the_stack_ends_with_the_codes_of_the_services() -> None:
    assert (ExitCode.CONFIGURATION, ExitCode.UNAVAILABLE) == (EXIT_CONFIGURATION, EXIT_UNAVAILABLE)


class _Unavailable(CommandError):
    exit_code = ExitCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandError("no\x1b luck"), 1),
        (_Unavailable("no\x1b luck"), 69),
        (TrackingClientError("no\x1b luck"), 1),
        (SettingsError("no\x1b luck"), 1),
    ],
)
def test_an_expected_error_is_one_line_and_an_exit_code(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setitem(main.__globals__, "app", fail)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == code
    assert capsys.readouterr().err == "tracking: no\\u001b luck\n"
