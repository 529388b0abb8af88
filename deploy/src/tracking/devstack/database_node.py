"""The embedded database as a process of its own: MongoDB's wire protocol, one data folder."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tracking.devstack.component import Component
from tracking.devstack.processes import ChildProcess, free_port

SELECTION_TIMEOUT_MS = 500

_OPTIONS = (
    "--sync-on-commit",  # without it a killed process loses its last commits
    "--log-file-max=128MB",
    "--cache-size=1G",
    # Pruning begins past this bound (100,000 by default) and cuts throughput from 4,400 to 1,600 updates/s.
    "--oplog-max-entries=100000000",
)


class DatabaseNode(Component):
    """The embedded database. Committed data survives a kill."""

    def __init__(self, data: Path, *, port: int | None = None, logs: Path | None = None) -> None:
        super().__init__("database", logs or data)
        self.data = data.absolute()
        self._port = port or free_port()

    @property
    def url(self) -> str:
        """The connection string."""
        return f"mongodb://127.0.0.1:{self._port}/?directConnection=true"

    async def is_ready(self) -> bool:
        """Checks that it answers."""
        # In a thread: the driver's asynchronous client leaves sockets open when it is closed this early.
        return await asyncio.to_thread(_answers, self.url)

    def _new_process(self) -> ChildProcess:
        self.data.mkdir(parents=True, exist_ok=True)
        program = Path(sys.executable).with_name("secantusd-rs")
        server = ["--host=127.0.0.1", f"--port={self._port}", f"--storage-path={self.data}"]
        arguments = [str(program), *server, *_OPTIONS]
        return ChildProcess(self.name, arguments, environment=os.environ, log_path=self.log_path)


def _answers(url: str) -> bool:
    with MongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=SELECTION_TIMEOUT_MS) as client:
        try:
            client.admin.command("ping")
        except PyMongoError:
            return False
    return True
