"""The commands that look after what was recorded: is it whole, what waits for an operator, what is dead."""

from pathlib import Path
from typing import Annotated

import typer

from shared.audit_trail import Actor
from tracking.audit import actor_of
from tracking.check import Target, describe
from tracking.check import check as check_records
from tracking.command_options import AsOption, DataDir, database_name, run, say, workflow_here
from tracking.data_folder import DEFAULT_FOLDER
from tracking.dead import MAX_LETTERS, list_dead, move
from tracking.local_stack import server_url
from tracking.parked import list_parked, release


def check(*, data_dir: DataDir = DEFAULT_FOLDER) -> None:
    """Reads everything that was recorded, and says whether it holds together.

    Versions and positions without holes, only legal steps, each order the fold of its history, each
    update with one effect and one outcome. Nothing is changed.

    It may run while orders move: what seems wrong is looked at again, and told only if it still is and did
    not change meanwhile. Commands that wait in the queues are not decided yet; it says how many.

    It looks at the running stack, or at what AMQP_URL, MONGODB_URL, MONGODB_DATABASE and WORKFLOW_FILE
    in the environment name.

    Exit code 0: no faults. 1: faults, or it could not be checked.
    """
    target = Target(
        amqp_url=server_url(data_dir, "AMQP_URL"),
        mongodb_url=server_url(data_dir, "MONGODB_URL"),
        database=database_name(),
        workflow=workflow_here(),
    )
    report = run(check_records(target))
    say(describe(report))
    if report.findings.faults:
        raise typer.Exit(1)


parked_app = typer.Typer(help="Orders that wait for an operator.", invoke_without_command=True)
OrderId = Annotated[str, typer.Argument(metavar="ORDER", help="The order's id.", show_default=False)]


@parked_app.callback()
def parked(context: typer.Context, *, data_dir: DataDir = DEFAULT_FOLDER) -> None:
    """Lists the orders that wait because order-state failed on one of their updates.

    For each one: the update that failed, since when, how, and how many wait behind it.

    It looks at the running stack, or at what AMQP_URL, MONGODB_URL and MONGODB_DATABASE name.
    """
    if context.invoked_subcommand is None:
        run(_say_parked(server_url(data_dir, "MONGODB_URL")))


async def _say_parked(mongodb_url: str) -> None:
    number = 0
    async for line in list_parked(mongodb_url, database_name()):
        number += 1
        say(line)
    if not number:
        say("nothing is parked")


@parked_app.command()
def replay(order: OrderId, *, acting: AsOption = "", data_dir: DataDir = DEFAULT_FOLDER) -> None:
    """Decides what waits of an order, one update after the other, until one fails again.

    Exit code 0: nothing of the order waits any more. 1: something does, or nobody knows.
    """
    _release(data_dir, order, actor_of(acting), skip=False)


@parked_app.command()
def skip(order: OrderId, *, acting: AsOption = "", data_dir: DataDir = DEFAULT_FOLDER) -> None:
    """Gives up the update that failed: it is rejected, for good. Then goes on as replay does."""
    _release(data_dir, order, actor_of(acting), skip=True)


def _release(data_dir: Path, order_id: str, actor: Actor, *, skip: bool) -> None:
    amqp_url, mongodb_url = server_url(data_dir, "AMQP_URL"), server_url(data_dir, "MONGODB_URL")
    say(run(release(amqp_url, mongodb_url, database_name(), order_id, skip=skip, actor=actor)))


dead_app = typer.Typer(help="Messages that no order-state could take.", invoke_without_command=True)
LetterName = Annotated[
    str, typer.Argument(metavar="LETTER", help="Its name in the list.", show_default=False)
]
Limit = Annotated[int, typer.Option(min=1, max=MAX_LETTERS, help="How many are listed.")]


@dead_app.callback()
def dead(context: typer.Context, *, limit: Limit = 20, data_dir: DataDir = DEFAULT_FOLDER) -> None:
    """Counts the dead letters, and lists the first ones.

    They are messages that order-state could not read, or that came back too often.

    For each one: its name, how and when it died, the first order and update in it. Nothing is changed.

    It looks at the running stack, or at what AMQP_URL names.
    """
    if context.invoked_subcommand is None:
        for line in run(list_dead(server_url(data_dir, "AMQP_URL"), limit)):
            say(line)


@dead_app.command()
def send(letter: LetterName, *, acting: AsOption = "", data_dir: DataDir = DEFAULT_FOLDER) -> None:
    """Sends the commands of a dead letter to their partitions again, and removes it.

    What was applied before is left out. What was sent for the same order since then goes before.
    """
    _move(data_dir, letter, actor_of(acting), again=True)


@dead_app.command()
def drop(letter: LetterName, *, acting: AsOption = "", data_dir: DataDir = DEFAULT_FOLDER) -> None:
    """Removes a dead letter for good. Nothing of it is applied, and nobody is told."""
    _move(data_dir, letter, actor_of(acting), again=False)


def _move(data_dir: Path, letter: str, actor: Actor, *, again: bool) -> None:
    amqp_url, mongodb_url = server_url(data_dir, "AMQP_URL"), server_url(data_dir, "MONGODB_URL")
    say(run(move(amqp_url, mongodb_url, database_name(), letter, again=again, actor=actor)))
