"""The command that changes the number of partitions."""

from typing import Annotated

import typer

from tracking.cli.command_options import AsOption, DataDir, database_name, run
from tracking.devstack.data_folder import DEFAULT_FOLDER, server_url
from tracking.terminal import echo
from tracking.upkeep.audit import actor_of
from tracking.upkeep.repartition import cancel_repartition, repartition


def change(
    count: Annotated[int | None, typer.Argument(metavar="N", help="Partitions for new orders.")] = None,
    *,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel a change that has not begun.")] = False,
    acting: AsOption = "",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Changes the number of partitions while everything runs.

    N partitions are added, and orders that are created from then on go to them. Every order stays in the
    partition in which it was created, so the positions of events and all cursors stay as they are. Ingest
    answers 503 for a moment. order-state does it; the command waits for the end. To interrupt it changes
    nothing: what is accepted is carried out, and the same command follows it.

    While the queues are long, the change has not begun: it waits, and `--cancel` ends it. Once ingest takes
    no updates, it is done in a few seconds, or waits again.

    All services must run a release that knows this command. An earlier one refuses to start afterwards, or to
    read.

    It asks the database of the running stack, or the one that MONGODB_URL and MONGODB_DATABASE name.

    Exit code 0: done, or already so. 1: refused, cancelled, or not done within 120 s; then it goes on.
    """
    if cancel == (count is not None):
        raise typer.BadParameter("give the number of partitions, or --cancel")
    mongodb_url, actor = server_url(data_dir, "MONGODB_URL"), actor_of(acting)
    if count is None:
        echo(run(cancel_repartition(mongodb_url, database_name(), actor)))
    else:
        echo(run(repartition(mongodb_url, database_name(), count, actor, echo)))
