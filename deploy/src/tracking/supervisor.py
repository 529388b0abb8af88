"""Supervision: what ends is started again, with a growing wait, and said so in one line."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from shared.serving import EXIT_CONFIGURATION
from tracking.part import Part
from tracking.processes import POLL_SECONDS, ChildProcess, DeadlineExceeded, ProcessEnded

FIRST_WAIT_SECONDS = 0.2
MAX_WAIT_SECONDS = 10.0

STABLE_SECONDS = 30.0
"""A part that ran this long starts with a short wait again."""

Say = Callable[[str], None]
"""Tells the person at the terminal one line."""


class ConfigurationFault(Exception):
    """A part ended because of its configuration: starting it again is pointless. Holds its own line."""


async def first_of(*works: Awaitable[None]) -> None:
    """Runs `works` beside each other until one ends or fails, then cancels the others.

    Raises what the first one raised.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def supervise(part: Part, say: Say, on_restart: Callable[[], None]) -> None:
    """Keeps a started part running, for ever.

    Raises:
        ConfigurationFault: the part says that its configuration is wrong.
    """
    wait_seconds = FIRST_WAIT_SECONDS
    while True:
        since = monotonic()
        ended = await _first_ended(part)
        if monotonic() - since > STABLE_SECONDS:
            wait_seconds = FIRST_WAIT_SECONDS
        check_configuration(ended)
        say(f"{ended.name} ended ({ended.describe_exit()}); starting it again in {wait_seconds:.1f} s")
        await asyncio.sleep(wait_seconds)
        wait_seconds = min(wait_seconds * 2, MAX_WAIT_SECONDS)
        try:
            await part.start()
        except ProcessEnded:
            continue  # the next turn says it
        except DeadlineExceeded as error:
            say(str(error))
            continue
        say(f"{ended.name} runs again")
        on_restart()


async def _first_ended(part: Part) -> ChildProcess:
    while True:
        for process in part.processes:
            if process.exit_code is not None:
                return process
        await asyncio.sleep(POLL_SECONDS)


def check_configuration(process: ChildProcess) -> None:
    """Raises `ConfigurationFault` if the process ended because of its configuration."""
    if process.exit_code == EXIT_CONFIGURATION:
        raise ConfigurationFault(process.last_line())
