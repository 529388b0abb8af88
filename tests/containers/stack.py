"""The containers of the Compose file, and what may befall one of them."""

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tenacity import retry, retry_if_exception_message, stop_after_attempt

from callers import eventually
from containers.commands import CommandFailed, run
from containers.engine import Engine

PARTS = ("proxy", "ingest", "order-state", "notifier", "query", "webhooks", "rabbitmq", "mongodb")
SERVICES = ("ingest", "order-state", "notifier", "query", "webhooks")
HEALTHY_SECONDS = 180.0

FREEZE_ATTEMPTS = 5
"""The engine gives up soon where the processes of a container do not stop at once, as on a busy machine."""

_LABEL = "label=com.docker.compose"
_SERVICE = f"{_LABEL}.service"
_LIST = ("ps", "--all", "--filter", f"{_LABEL}.project=tracking", "--filter", f"{_LABEL}.oneoff=False")


class Stack:
    """All containers."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def up(self, *options: str) -> None:
        """Starts what is not there, and waits until all are healthy."""
        words = ("up", "--detach", "--no-build", "--wait", "--wait-timeout", f"{HEALTHY_SECONDS:.0f}")
        await self.engine.compose(*words, *options, seconds=HEALTHY_SECONDS + 90)

    async def containers(self, part: str) -> list[dict[str, Any]]:
        """What the engine knows of each container of a part."""
        ids = (await self.engine.docker(*_LIST, "--quiet", "--filter", f"{_SERVICE}={part}")).split()
        if not ids:
            return []
        found: list[dict[str, Any]] = json.loads(await self.engine.docker("inspect", *ids))
        return found

    async def container(self, part: str) -> dict[str, Any]:
        """The only one of a part."""
        (found,) = await self.containers(part)
        return found

    async def all_healthy(self) -> None:
        """Returns when each container is."""

        async def healthy() -> bool:
            states = (await self.engine.docker(*_LIST, "--format", "{{.Status}}")).splitlines()
            return len(states) >= len(PARTS) and all("(healthy)" in state for state in states)

        await eventually(healthy, seconds=HEALTHY_SECONDS)

    async def check(self, *options: str) -> str:
        """The last line of the verdict of `tracking check`, run from the image."""
        words = ("run", "--rm", "--no-deps", "--no-TTY", *options, "tracking", "check")
        try:
            said = await self.engine.compose(*words, seconds=120)
        except CommandFailed as error:
            return str(error).replace("\n", "; ")[-300:]
        return "no faults" if "no faults" in said.splitlines() else said[-300:].replace("\n", "; ")

    async def restart(self, part: str) -> None:
        """As an operator does."""
        await self.engine.compose("restart", part)

    async def kill(self, part: str) -> None:
        """As the kernel does when the memory is out: the engine starts it again by itself."""
        os.kill((await self.container(part))["State"]["Pid"], signal.SIGKILL)

    @asynccontextmanager
    async def paused(self, part: str) -> AsyncIterator[None]:
        """Frozen while the body runs."""
        await self._freeze(part)
        try:
            yield
        finally:
            await self.engine.compose("unpause", part)

    @retry(
        retry=retry_if_exception_message(match=r"(?s).*unable to freeze"),
        stop=stop_after_attempt(FREEZE_ATTEMPTS),
        reraise=True,
    )
    async def _freeze(self, part: str) -> None:
        await self.engine.compose("pause", part)

    @asynccontextmanager
    async def cut_off(self, part: str) -> AsyncIterator[None]:
        """While the body runs, nothing comes and nothing goes over its network, and nobody is told so."""
        enter = ("nsenter", f"--target={(await self.container(part))['State']['Pid']}", "--net", "iptables")
        rules = (("INPUT", "--in-interface"), ("OUTPUT", "--out-interface"))
        for chain, interface in rules:
            await run(*enter, "--insert", chain, "!", interface, "lo", "--jump", "DROP")
        try:
            yield
        finally:
            for chain, interface in rules:
                await run(*enter, "--delete", chain, "!", interface, "lo", "--jump", "DROP")
