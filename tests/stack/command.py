"""`tracking up` as a process of its own."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil

from tracking.devstack.processes import ChildProcess, descendants, ready

READY_SECONDS = 50
ANY_PORTS = ("--ingest-port", "0", "--query-port", "0", "--notifier-port", "0")


class RunningStack:
    """`tracking up` on a data folder."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.data = folder / "data"
        self.ready_file = folder / "ready.json"
        files = ("--data-dir", str(self.data), "--ready-file", str(self.ready_file))
        self.process = ChildProcess(
            "tracking",
            [sys.executable, "-m", "tracking", "up", *ANY_PORTS, *arguments, *files],
            environment=os.environ | environment,
            log_path=folder / "tracking.log",
        )

    async def wait_ready(self) -> dict[str, Any]:
        """What the ready file says, when it is there."""

        async def is_there() -> bool:
            return self.ready_file.exists()

        await ready(self.process, is_there, seconds=READY_SECONDS)
        return self.document

    @property
    def document(self) -> dict[str, Any]:
        """What the ready file says now."""
        document: dict[str, Any] = json.loads(self.ready_file.read_text())
        return document

    @property
    def output(self) -> str:
        """Everything that was said so far."""
        return self.process.log_path.read_text()

    @property
    def family(self) -> set[psutil.Process]:
        """Every process of the stack but the first."""
        return descendants(self.process.pid)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit code."""
        self.process.signal(number)
        async with asyncio.timeout(50):
            return await self.process.wait()
