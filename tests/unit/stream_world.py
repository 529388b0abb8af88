"""A notifier's server in this process, on a log in memory: streams without a broker and a database."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import httpx
import jwt
import orjson
from notifier_world import World, new_world
from prometheus_client import REGISTRY

from tracking.devstack.processes import free_port
from tracking_notifier.log.event_log import EventLog
from tracking_notifier.session.admission import Admission
from tracking_notifier.session.server import StreamServer
from tracking_notifier.session.session_context import SessionContext
from tracking_shared.auth.cursor_seals import CursorSeals
from tracking_shared.auth.revocations import RevocationList, Revocations
from tracking_shared.auth.tokens import TokenVerifier
from tracking_shared.contracts.cursors import encode_cursor, open_cursor
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.policy.limits import Shares
from tracking_shared.settings import Settings

SECRET = "a-secret-of-the-tests-0123456789abcdef"

Document = dict[str, Any]


def bearer(*, ttl: float = 600, **claims: Any) -> str:
    """A token; by default it may read everything."""
    standard = {"sub": "tester", "scope": "orders:read", "merchants": ["*"], "exp": time.time() + ttl}
    return jwt.encode(standard | claims, SECRET, "HS256")


@dataclass(frozen=True)
class ServerEvent:
    """One event of a stream as its lines say it."""

    type: str
    id: str | None
    data: Document


@dataclass
class EventStream:
    """A client of an event stream, read line by line with httpx."""

    response: httpx.Response
    comments: int = 0
    lines: AsyncIterator[str] = field(init=False)

    def __post_init__(self) -> None:
        self.lines = self.response.aiter_lines()

    async def next(self) -> ServerEvent:
        """The next event.

        Raises:
            StopAsyncIteration: the stream has ended.
        """
        fields: dict[str, str] = {}
        while (line := await anext(self.lines)) or not fields:
            if line.startswith(":"):
                self.comments += 1
            elif line:
                name, _, value = line.partition(": ")
                assert name not in fields, "one line of each"
                fields[name] = value
        return ServerEvent(fields["event"], fields.get("id"), orjson.loads(fields["data"]))

    async def until(self, kind: str) -> list[ServerEvent]:
        """All events up to and with the first of this type."""
        events = [await self.next()]
        while events[-1].type != kind:
            events.append(await self.next())
        return events

    async def rest(self) -> list[ServerEvent]:
        """All events until the stream ends."""
        events = []
        try:
            while True:
                events.append(await self.next())
        except StopAsyncIteration:
            return events


@dataclass
class StreamWorld:
    """A server, the world that it shows, and the revocations that it knows."""

    world: World
    server: StreamServer
    url: str
    stop: asyncio.Event
    revocations: SimpleNamespace
    cursors: SimpleNamespace
    is_live: bool = True

    def happens(self, order_id: str, status: str = "in_transit") -> None:
        """A change of an order that reaches the live clients at once."""
        event = self.world.history.apply(order_id, status)
        self.world.take(event.partition)

    @property
    def sessions(self) -> float:
        """Connections that are open now, of all servers of this process."""
        return REGISTRY.get_sample_value("tracking_stream_connections") or 0.0

    def revoke(self, subject: str) -> None:
        """Revokes all tokens of a subject."""
        self.revocations.known = Revocations(issued_before={subject: time.time() + 1})
        self.server.close_revoked()

    @asynccontextmanager
    async def streaming(
        self, query: str = "", token: str | None = None, status: int = 200, **headers: str
    ) -> AsyncIterator[EventStream]:
        """An event stream that has begun, or the beginning of another answer."""
        sent = {"Accept": "text/event-stream", "Authorization": f"Bearer {token or bearer()}"}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with (
            httpx.AsyncClient(timeout=20) as client,
            client.stream("GET", f"{self.url}{query}", headers=sent | named) as response,
        ):
            assert response.status_code == status, await response.aread()
            yield EventStream(response)


@asynccontextmanager
async def stream_world(
    *,
    max_connections: int = 100,
    heartbeat_seconds: float = 20.0,
    queue_bytes: int = 1024 * 1024,
    drain_seconds: float = 30.0,
    origins: frozenset[str] = frozenset(),
    padding_bytes: int = 0,
) -> AsyncIterator[StreamWorld]:
    """A server until the end of the body."""
    world = new_world(padding_bytes=padding_bytes)
    revocations = SimpleNamespace(known=Revocations())
    cursors = SimpleNamespace(encode=encode_cursor, decode=lambda text: open_cursor(text, None))
    context = SessionContext(
        hub=world.hub,
        log=cast(EventLog, world.log),
        pages=world.pages,
        verifier=TokenVerifier(
            Settings(amqp_url="amqp://none", mongodb_url="mongodb://none", jwt_secret=SECRET)
        ),
        revocations=cast(RevocationList, revocations),
        workflow=DEFAULT_WORKFLOW,
        admission=Admission(max_connections, None, Shares()),
        cursors=cast(CursorSeals, cursors),
        queue_bytes=queue_bytes,
        drain_seconds=drain_seconds,
        is_live=lambda: made.is_live,
    )
    server = StreamServer(context, {}, heartbeat_seconds, origins)
    port, stop = free_port(), asyncio.Event()
    made = StreamWorld(world, server, f"http://127.0.0.1:{port}/v1/stream", stop, revocations, cursors)
    serving = asyncio.create_task(server.serve("127.0.0.1", port, stop, 0.0))
    try:
        await _until_listening(port)
        yield made
    finally:
        stop.set()
        await serving


async def _until_listening(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
                continue
            writer.close()
            return
