"""A notifier that says exactly what a test has written down for it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tracking_notifier.session.client_connection import StreamConnection, handshake_tokens
from tracking_notifier.stream.sse import accepts_event_stream, event_stream_request
from tracking_notifier.stream.stream_messages import ServerMessage

Document = dict[str, Any]

PROBLEM = {"type": "/problems/forbidden", "title": "Forbidden", "status": 403, "detail": "Not for you."}


class Visit:
    """One connection of a client, and its first message."""

    def __init__(self, socket: ServerConnection, request: Document) -> None:
        self.socket = socket
        self.request = request

    async def say(self, *messages: Document) -> None:
        for message in messages:
            await self.socket.send(orjson.dumps(message), text=True)

    async def say_raw(self, data: str | bytes) -> None:
        """Says what is no message."""
        await self.socket.send(data)

    async def hear(self) -> Document:
        """The client's next message."""
        message: Document = orjson.loads(await self.socket.recv())
        return message

    async def stay(self) -> None:
        """Nothing happens until the client goes."""
        await self.socket.wait_closed()

    async def cut(self) -> None:
        """Ends the connection without a close frame, after all that was said."""
        self.socket.transport.close()

    async def close(self, code: int, reason: str = "") -> None:
        await self.socket.close(code, reason)


class EventStreamVisit(Visit):
    """The same by server-sent events. Instead of a close code, the last message is a problem."""

    async def say(self, *messages: Document) -> None:
        for message in messages:
            named = ServerMessage(message.get("type", ""), orjson.dumps(message), message.get("cursor"))
            assert isinstance(self.socket, StreamConnection)
            self.socket.send_now(named)
            await self.socket.drain()

    async def say_raw(self, data: str | bytes) -> None:
        line = data.encode() if isinstance(data, str) else b"\xff" + data
        self.socket.transport.write(b"data: %b\n\n" % line)

    async def close(self, code: int, reason: str = "") -> None:
        if code == 4401:
            await self.say({"type": "problem", "problem": PROBLEM | {"status": 401, "detail": reason}})
        await self.socket.close(code)


Script = Callable[[Visit], Awaitable[None]]


class ScriptedNotifier:
    """Plays one script a connection, the last one again and again."""

    def __init__(self, scripts: tuple[Script, ...]) -> None:
        self._scripts = list(scripts)
        self.visits: list[Visit] = []
        self.failure: BaseException | None = None
        self.blocks = 0
        """So many WebSockets from now on do not get through."""
        self.blocked = 0
        self._stream_requests: dict[ServerConnection, Document] = {}

    @property
    def requests(self) -> list[Document]:
        """The first message of each connection."""
        return [visit.request for visit in self.visits]

    async def respond(self, socket: ServerConnection, request: Request) -> Response | None:
        """Begins an event stream if one is asked for. None: the library goes on with the WebSocket."""
        if not accepts_event_stream(request.headers.get_all("Accept")):
            return self._block(socket) if self.blocks else None
        asked = event_stream_request(request.path.partition("?")[2], "").model_dump(exclude_unset=True)
        [token] = handshake_tokens(request.headers)
        self._stream_requests[socket] = asked | {"token": token}
        assert isinstance(socket, StreamConnection)
        return socket.begin_event_stream("0" * 32, 60)

    def _block(self, socket: ServerConnection) -> Response:
        self.blocks -= 1
        self.blocked += 1
        return socket.respond(502, "no way")

    async def serve(self, socket: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            stream_request = self._stream_requests.pop(socket, None)
            if stream_request is None:
                visit = Visit(socket, orjson.loads(await socket.recv()))
            else:
                visit = EventStreamVisit(socket, stream_request)
            script = self._scripts[min(len(self.visits), len(self._scripts) - 1)]
            self.visits.append(visit)
            try:
                await script(visit)
            except AssertionError as failure:
                self.failure = failure
                raise


@asynccontextmanager
async def scripted(*scripts: Script) -> AsyncIterator[tuple[str, ScriptedNotifier]]:
    """The address of a notifier that plays these scripts, and the notifier."""
    notifier = ScriptedNotifier(scripts)
    async with serve(
        notifier.serve,
        "127.0.0.1",
        0,
        create_connection=StreamConnection,
        process_request=notifier.respond,
        compression=None,
        close_timeout=1,
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        try:
            yield f"ws://127.0.0.1:{port}/v1/stream", notifier
        finally:
            if notifier.failure is not None:
                raise notifier.failure


def playing(*messages: Document) -> Script:
    """Says these, then waits for the client to go."""

    async def play(visit: Visit) -> None:
        await visit.say(*messages)
        await visit.stay()

    return play


def cutting(*messages: Document) -> Script:
    """Says these, then breaks the connection."""

    async def play(visit: Visit) -> None:
        await visit.say(*messages)
        await visit.cut()

    return play


def closing(code: int, *messages: Document, reason: str = "") -> Script:
    """Says these, then closes with this code."""

    async def play(visit: Visit) -> None:
        await visit.say(*messages)
        await visit.close(code, reason)

    return play


def order(order_id: str, version: int, status: str = "created", merchant_id: str = "acme") -> Document:
    """An order of a snapshot."""
    return {
        "order_id": order_id,
        "merchant_id": merchant_id,
        "reference": f"#{order_id}",
        "customer": {"name": "Ada", "contact_ref": "crm:1"},
        "status": status,
        "version": version,
        "active": status not in ("delivered", "cancelled"),
        "created_at": "2026-03-01T08:00:00.000Z",
        "updated_at": "2026-03-01T08:00:00.000Z",
        "due_at": None,
        "eta": None,
        "overdue": False,
        "source": {"type": "system", "id": "shop"},
        "metadata": {"version": version},
        "allowed_next": [],
    }


def event(order_id: str, version: int, status: str = "picked_up", previous: str | None = None) -> Document:
    """The event after which `order(order_id, version, status)` is the order."""
    after = order(order_id, version, status)
    data = {name: after[name] for name in after.keys() - {"updated_at", "metadata"}}
    data |= {
        "previous_status": previous if previous or version == 1 else "created",
        "update_id": f"u-{version}",
        "occurred_at": None,
        "received_at": after["updated_at"],
        "recorded_at": after["updated_at"],
        "metadata": {},
        "order_metadata": after["metadata"],
    }
    kind = "order.created" if version == 1 else "order.status_changed"
    return {
        "specversion": "1.0",
        "id": f"{order_id}:{version}",
        "source": "/orders",
        "type": kind,
        "subject": order_id,
        "time": after["updated_at"],
        "datacontenttype": "application/json",
        "sequence": str(version).zfill(20),
        "partition": 0,
        "data": data,
    }


def snapshot(*orders: Document, more: bool = False) -> Document:
    return {"type": "snapshot", "orders": list(orders), "more": more}


def events(cursor: str, *entries: Document) -> Document:
    return {"type": "events", "events": list(entries), "cursor": cursor}


def live(cursor: str) -> Document:
    return {"type": "live", "cursor": cursor}


def resync(cursor: str, reason: str = "too-slow") -> Document:
    return {"type": "resync", "reason": reason, "cursor": cursor}


def problem() -> Document:
    return {"type": "problem", "problem": PROBLEM}
