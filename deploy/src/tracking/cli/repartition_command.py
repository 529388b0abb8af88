"""The command that changes the number of partitions."""

from typing import Annotated

import typer

from tracking.cli.command_options import AsOption, DataDir, database_name, run
from tracking.devstack.data_folder import DEFAULT_FOLDER, server_url
from tracking.terminal import echo
from tracking.upkeep.audit import actor_of
from tracking.upkeep.repartition import repartition


def change(
    count: Annotated[int, typer.Argument(metavar="N", help="Partitions for new orders.", show_default=False)],
    *,
    acting: AsOption = "",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Changes the number of partitions while everything runs.

    N partitions are added, and orders that are created from then on go to them. Every order stays in the
    partition in which it was created, so the positions of events and all cursors stay as they are. Ingest
    answers 503 for a moment. order-state does it; the command waits for the end. To interrupt it changes
    nothing: what is accepted is carried out, and the same command follows it.

    All services must run a release that knows this command. An earlier one refuses to start afterwards, or to
    read.

    It asks the database of the running stack, or the one that MONGODB_URL and MONGODB_DATABASE name.

    Exit code 0: done, or already so. 1: refused, or not done within 120 s; then it goes on.
    """
    mongodb_url = server_url(data_dir, "MONGODB_URL")
    echo(run(repartition(mongodb_url, database_name(), count, actor_of(acting), echo)))
