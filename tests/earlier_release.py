"""The source tree of the release before this one, to run its services beside those of this one."""

import subprocess
import tarfile
from os import pathsep
from pathlib import Path

EARLIER_COMMIT = "b29854f"
"""Of the newest folder in tests/data/releases."""

ROOT = Path(__file__).parents[1]
PACKAGES = ("shared", "services/ingest", "services/order-state", "services/notifier", "services/query")


class NoEarlierRelease(Exception):
    """The repository is not there, or not its history."""


def earlier_tree(folder: Path) -> str:
    """Unpacks the tree into `folder`. Returns the PYTHONPATH with which its services run.

    Raises:
        NoEarlierRelease: as there.
    """
    archive = folder / "earlier.tar"
    command = ["git", "-C", str(ROOT), "archive", "--output", str(archive), EARLIER_COMMIT, *PACKAGES]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoEarlierRelease(str(error)) from None
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return pathsep.join(str(folder / package / "src") for package in PACKAGES)
