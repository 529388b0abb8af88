"""The command line: all commands, and the one place that turns expected errors into exit codes."""

import logging
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from tracking.errors import CommandError, ExitCode
from tracking.terminal import printable_lines, replace_missing_characters
from tracking_client.errors import TrackingClientError
from tracking_shared.errors import SettingsError

COMMANDS: Mapping[str, str] = {
    "up": "stack_commands:up",
    "demo": "stack_commands:demo",
    "token": "token_commands:token",
    "revoke": "token_commands:revoke",
    "tail": "order_commands:tail",
    "load": "load_command:load",
    "check": "upkeep_commands:check",
    "erase": "upkeep_commands:erase",
    "archive": "archive_command:archive",
    "audit": "token_commands:audit",
    "repartition": "repartition_command:change",
    "report": "order_commands:report",
    "parked": "upkeep_commands:parked_app",
    "held": "upkeep_commands:held",
    "dead": "upkeep_commands:dead_app",
}
"""Command → the module and the function that runs it, or the `typer.Typer` of a group of commands."""


class _Commands(TyperGroup):
    """All commands. The module of a command is imported when it is called: each imports a second's worth of
    libraries, of which another command needs none. The types of its context are private to typer.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, if there is one."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(f"tracking.cli.{module}"), attribute)
        if isinstance(command, typer.Typer):
            return typer.main.get_command(command)
        alone = typer.Typer(rich_markup_mode=None, add_completion=False)
        alone.command(cmd_name)(command)
        return typer.main.get_command(alone)


app = typer.Typer(
    cls=_Commands,
    help="Live order tracking on one machine.",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _commands() -> None:
    """Nothing is common to all commands."""


def main() -> None:
    """Runs a command and exits the process. An expected error becomes one line on standard error."""
    replace_missing_characters()
    log_lines = logging.StreamHandler()
    log_lines.setFormatter(_PrintableLines())
    logging.basicConfig(handlers=[log_lines])
    for library in ("aio_pika", "aiormq"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # their errors are also raised
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="tracking", standalone_mode=False)
    except typer.TyperException as error:  # wrong usage; typer's own message takes four lines
        _leave(" ".join(error.format_message().replace("Value error, ", "").split()), error.exit_code)
    except CommandError as error:
        _leave(str(error), error.exit_code)
    except (TrackingClientError, SettingsError) as error:
        _leave(str(error), ExitCode.FAILED)
    else:
        sys.exit(code)


class _PrintableLines(logging.Formatter):
    """Messages alone. They may contain text from a server, so they are made safe for the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


def _leave(line: str, code: int) -> None:
    sys.stderr.write(f"tracking: {printable_lines(line)}\n")
    sys.exit(code)
