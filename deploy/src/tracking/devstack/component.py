"""The components of a stack (broker, database, service replicas): started, stopped, killed and supervised."""

import asyncio
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from tracking.devstack.processes import (
    POLL_SECONDS,
    ChildProcess,
    DeadlineExceeded,
    ProcessEnded,
    ready,
)
from tracking.errors import CommandError, ExitCode

START_SECONDS = 60.0
"""A service is up in about a second, a broker node in six; crash recovery takes longer."""

FIRST_WAIT_SECONDS = 0.2
MAX_WAIT_SECONDS = 10.0

STABLE_SECONDS = 30.0
"""A component that ran this long is restarted after the shortest wait again."""

Echo = Callable[[str], None]
"""Prints one line on the terminal."""


class StackFailed(CommandError):
    """The stack cannot start or continue."""

    exit_code = ExitCode.UNAVAILABLE


class ConfigurationFault(StackFailed):
    """The configuration is wrong, so restarting does not help. The message is the component's own line."""

    exit_code = ExitCode.CONFIGURATION


class Component(ABC):
    """The broker, the database, or a replica of a service. Its data, port and log outlive each start."""

    def __init__(self, name: str, logs: Path) -> None:
        self.name = name
        self.log_path = logs.absolute() / f"{name}.log"
        """The output of the program."""
        self._process: ChildProcess | None = None

    @abstractmethod
    def _new_process(self) -> ChildProcess:
        """Starts the program."""

    @abstractmethod
    async def is_ready(self) -> bool:
        """Checks that it works now."""

    @property
    def process(self) -> ChildProcess:
        """The newest process of the program, which must have been started."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process

    @property
    def processes(self) -> list[ChildProcess]:
        """The processes that it needs, in the order of their start; empty before it."""
        return [self._process] if self._process else []

    @property
    def pid(self) -> int:
        """The process id of the newest process."""
        return self.process.pid

    def launch(self) -> None:
        """Starts each process that does not run, without waiting until it is ready."""
        if self._process is None or self._process.exit_code is not None:
            self._process = self._new_process()

    async def start(self) -> None:
        """Starts each process that does not run and returns when the component is ready.

        Raises:
            ProcessEnded: it ended instead, for example for a wrong configuration.
            DeadlineExceeded: it did not become ready within `START_SECONDS`.
        """
        self.launch()
        await ready(self.process, self.is_ready, seconds=START_SECONDS)

    async def stop(self) -> None:
        """Stops it and its descendants, with SIGTERM first and then with SIGKILL."""
        for process in reversed(self.processes):
            await process.stop()

    async def kill(self) -> None:
        """Kills it as a crash would. `start` restarts it on its data."""
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
        """Reverses `pause`."""
        self.process.signal(signal.SIGCONT)


async def supervise(component: Component, echo: Echo, on_restart: Callable[[], None]) -> None:
    """Restarts a started component whenever one of its processes ends, after a growing wait, for ever.

    Raises:
        ConfigurationFault: the component ended because its configuration is wrong.
    """
    wait_seconds = FIRST_WAIT_SECONDS
    while True:
        since = monotonic()
        ended = await _first_ended(component)
        if monotonic() - since > STABLE_SECONDS:
            wait_seconds = FIRST_WAIT_SECONDS
        check_configuration(ended)
        echo(f"{ended.name} ended ({ended.describe_exit()}); starting it again in {wait_seconds:.1f} s")
        await asyncio.sleep(wait_seconds)
        wait_seconds = min(wait_seconds * 2, MAX_WAIT_SECONDS)
        try:
            await component.start()
        except ProcessEnded:
            continue  # the next round reports it
        except DeadlineExceeded as error:
            echo(str(error))
            continue
        echo(f"{ended.name} runs again")
        on_restart()


async def _first_ended(component: Component) -> ChildProcess:
    while True:
        for process in component.processes:
            if process.exit_code is not None:
                return process
        await asyncio.sleep(POLL_SECONDS)


def check_configuration(process: ChildProcess) -> None:
    """Raises `ConfigurationFault` if the process ended because its configuration is wrong."""
    if process.exit_code == ExitCode.CONFIGURATION:
        raise ConfigurationFault(process.last_line())
