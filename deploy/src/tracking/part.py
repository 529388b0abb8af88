"""A part of the stack: one program that can be started, stopped, killed and restarted as often as needed."""

import signal
from abc import ABC, abstractmethod
from pathlib import Path

from tracking.processes import ChildProcess, ready

START_SECONDS = 60.0
"""A service is up in about a second, a broker node in six; crash recovery takes longer."""


class Part(ABC):
    """The broker, the database, or a replica of a service. Data, port and log stay from start to start."""

    def __init__(self, name: str, logs: Path) -> None:
        self.name = name
        self.log_path = logs.absolute() / f"{name}.log"
        """Where everything goes that the program writes."""
        self._process: ChildProcess | None = None

    @abstractmethod
    def _new_process(self) -> ChildProcess:
        """Starts the program."""

    @abstractmethod
    async def is_ready(self) -> bool:
        """Whether it does its work now."""

    @property
    def process(self) -> ChildProcess:
        """The newest process of the program, which must have been started."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process

    @property
    def processes(self) -> list[ChildProcess]:
        """The processes that must run for it to work, in the order of their start; empty before it."""
        return [self._process] if self._process else []

    @property
    def pid(self) -> int:
        """The process id of the newest process."""
        return self.process.pid

    def launch(self) -> None:
        """Starts what does not run, without waiting for it to be ready."""
        if self._process is None or self._process.exit_code is not None:
            self._process = self._new_process()

    async def start(self) -> None:
        """Starts what does not run and returns when it is ready.

        Raises:
            ProcessEnded: it ended instead, for example for a wrong configuration.
            DeadlineExceeded: it did not become ready within `START_SECONDS`.
        """
        self.launch()
        await ready(self.process, self.is_ready, seconds=START_SECONDS)

    async def stop(self) -> None:
        """Stops it cleanly, or with SIGKILL where it does not listen, with everything that it started."""
        for process in reversed(self.processes):
            await process.stop()

    async def kill(self) -> None:
        """Kills it as a crash would. `start` brings it back with its data."""
        for process in reversed(self.processes):
            await process.kill()

    async def restart(self) -> None:
        """Stops and starts it."""
        await self.stop()
        await self.start()

    def pause(self) -> None:
        """Freezes it (SIGSTOP): its connections stay open and nothing answers."""
        self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """The reverse of `pause`."""
        self.process.signal(signal.SIGCONT)
