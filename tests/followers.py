"""Followers of the stream that come back with their cursor, and what they have seen."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout
from websockets.asyncio.client import connect as connect_stream
from websockets.exceptions import ConnectionClosed, WebSocketException

from callers import token
from tracking_shared.storage.database import open_database


@dataclass(slots=True)
class Follower:
    """A dashboard that follows all orders from its cursor on, whichever notifier is there. A `resync` fails
    it.
    """

    stream_url: Callable[[], str]
    cursor: str | None = None
    versions: dict[str, list[int]] = field(default_factory=dict)

    async def run(self) -> None:
        """Follows until it is cancelled."""
        while True:
            with suppress(ConnectionClosed, WebSocketException, ClientError, OSError, TimeoutError):
                await self._follow(self.stream_url())
            await asyncio.sleep(0.1)  # back-off, not a wait for a condition

    async def _follow(self, url: str) -> None:
        subscribe: dict[str, Any] = {"type": "subscribe", "token": token(), "filter": {"active": None}}
        subscribe |= {"snapshot": False} if self.cursor is None else {"after": self.cursor}
        async with connect_stream(url) as socket:
            await socket.send(orjson.dumps(subscribe).decode())
            async for text in socket:
                self.take(orjson.loads(text))

    def take(self, message: dict[str, Any]) -> None:
        """Notes the events of a message, and its cursor."""
        assert message["type"] not in ("resync", "problem"), message
        for event in message.get("events", ()):
            self.versions.setdefault(event["data"]["order_id"], []).append(event["data"]["version"])
        self.cursor = message.get("cursor", self.cursor)

    async def is_following(self) -> bool:
        """True once it has a cursor."""
        return self.cursor is not None

    async def has_all(self, environment: Mapping[str, str]) -> bool:
        """True once it has each version of each order, in their order, and fails if it has one twice."""
        for order_id, versions in self.versions.items():
            assert versions == list(range(1, len(versions) + 1)), order_id
        seen = {order_id: len(versions) for order_id, versions in self.versions.items()}
        return seen == await newest_versions(environment)


class EventStreamFollower(Follower):
    """The same over an event stream, with `Last-Event-ID`."""

    async def _follow(self, url: str) -> None:
        headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {token()}"}
        if self.cursor is not None:
            headers["Last-Event-ID"] = self.cursor
        async with (
            ClientSession(timeout=ClientTimeout(total=None), read_bufsize=2**24) as session,
            session.get(
                url.replace("ws", "http", 1), params={"snapshot": "false"}, headers=headers
            ) as answer,
        ):
            if answer.status == 503:
                return
            assert answer.status == 200, await answer.text()
            data = b""
            async for line in answer.content:
                if line.startswith(b"data: "):
                    data = line.removeprefix(b"data: ")
                elif line == b"\n" and data:  # one that was cut off has no blank line behind it
                    self.take(orjson.loads(data))
                    data = b""


async def newest_versions(environment: Mapping[str, str]) -> dict[str, int]:
    """The version of each order in the database."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        return {one["_id"]: one["version"] async for one in database.orders.find({}, {"version": 1})}
