"""The WebSocket of the notifier, as the fake server has it."""

import asyncio
from time import time
from typing import Any

from aiohttp import WSMsgType, web

from tracking_client.fake.access import Caller, caller_of
from tracking_client.fake.filters import checked_filter, matches_event, matches_order
from tracking_client.fake.order_book import Document, OrderBook, visible_event, visible_order
from tracking_client.fake.problems import Refusal, invalid
from tracking_client.fake.queries import cursor_at, position_of
from tracking_client.json_text import decode, encode

SUBSCRIBE_SECONDS = 5.0
MAX_EVENTS = 500
"""Events in one message."""

MAX_MESSAGE_BYTES = 64 * 1024

RESTARTING = 1012
BAD_MESSAGE = 4400
_CODES = {"unauthenticated": 4401, "forbidden": 4403}

_SUBSCRIBE = frozenset({"type", "token", "filter", "after", "snapshot", "heartbeat"})


class Streams:
    """All open streams of one book of orders."""

    def __init__(self, book: OrderBook, secret: str) -> None:
        self._book = book
        self._secret = secret
        self._open: set[_Stream] = set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serves one connection until it ends."""
        socket = web.WebSocketResponse(protocols=("tracking.v1",), max_msg_size=MAX_MESSAGE_BYTES)
        await socket.prepare(request)
        stream = _Stream(socket, self._book, self._secret, _handshake_token(request))
        self._open.add(stream)
        try:
            await stream.run(request.path)
        finally:
            self._open.discard(stream)
        return socket

    def wake(self) -> None:
        """Tells all streams that there are new events."""
        for stream in self._open:
            stream.news.set()

    async def close_all(self) -> None:
        """Closes all streams as a restart does: clients reconnect with their cursor."""
        await asyncio.gather(*(stream.close(RESTARTING, "restarting") for stream in list(self._open)))


class _Stream:
    """One connection."""

    def __init__(self, socket: web.WebSocketResponse, book: OrderBook, secret: str, token: str) -> None:
        self.news = asyncio.Event()
        self._socket = socket
        self._book = book
        self._secret = secret
        self._token = token  # of the handshake
        self._caller: Caller | None = None
        self._sending: asyncio.Task[None] | None = None

    async def run(self, path: str) -> None:
        try:
            await self._read(path)
        except Refusal as refusal:
            await self._send({"type": "problem", "problem": refusal.document(path)})
            await self.close(_CODES.get(refusal.slug, BAD_MESSAGE), refusal.slug)
        except ConnectionError:
            pass  # the client is gone
        finally:
            await self._stop_sending()

    async def close(self, code: int, reason: str) -> None:
        await self._stop_sending()
        await self._socket.close(code=code, message=reason.encode())

    async def _read(self, path: str) -> None:
        while True:
            limit = SUBSCRIBE_SECONDS if self._caller is None else self._caller.expires_at - time()
            try:
                received = await self._socket.receive(timeout=max(limit, 0.0))
            except TimeoutError:
                if self._caller is None:
                    await self.close(4408, "no subscribe in time")
                    return
                raise Refusal("unauthenticated", "exp: the token has expired.") from None
            if received.type is not WSMsgType.TEXT:
                return  # closed by one of the sides
            await self._take(_parsed(received.data), path)

    async def _take(self, message: Document, path: str) -> None:
        kind = message.get("type")
        if kind == "subscribe":
            await self._subscribe(message)
        elif kind == "refresh" and self._caller is not None:
            try:
                self._caller = self._authenticated(message.get("token"))
            except Refusal as refusal:
                await self._send({"type": "problem", "problem": refusal.document(path)})
        else:
            raise invalid("/type", "must be subscribe, and later subscribe or refresh")

    async def _subscribe(self, message: Document) -> None:
        unknown = message.keys() - _SUBSCRIBE
        if unknown:
            raise invalid(f"/{min(unknown)}", "is not a field that is known here")
        if self._caller is None or message.get("token") is not None:
            self._caller = self._authenticated(message.get("token") or self._token)
        wanted = checked_filter(message.get("filter"))
        after = message.get("after")
        position = len(self._book.log) if after is None else position_of(after, len(self._book.log))
        wants_snapshot = message.get("snapshot")
        if wants_snapshot is None:
            wants_snapshot = after is None
        await self._stop_sending()
        self._sending = asyncio.create_task(self._follow(wanted, position, wants_snapshot=wants_snapshot))

    def _authenticated(self, token: Any) -> Caller:
        if not isinstance(token, str):
            raise Refusal("unauthenticated", "There is no token.")
        caller = caller_of(self._secret, token)
        caller.require("orders:read")
        return caller

    async def _follow(self, wanted: Document, position: int, *, wants_snapshot: bool) -> None:
        if wants_snapshot:
            position = len(self._book.log)
            orders = [
                visible_order(order, caller)
                for caller in (self._reader,)
                for order in self._book.orders.values()
                if caller.reaches(order["order_id"], order["merchant_id"]) and matches_order(wanted, order)
            ]
            await self._send({"type": "snapshot", "orders": orders, "more": False})
        is_live = False
        while True:
            self.news.clear()
            position = await self._send_events(wanted, position)
            if not is_live:
                await self._send({"type": "live", "cursor": cursor_at(position)})
                is_live = True
            if position == len(self._book.log):
                await self.news.wait()

    async def _send_events(self, wanted: Document, position: int) -> int:
        """Sends what follows a position, and returns the new one."""
        while position < len(self._book.log):
            page = self._book.log[position : position + MAX_EVENTS]
            position += len(page)
            caller = self._reader
            events = [
                visible_event(event, caller)
                for event in page
                if caller.reaches(event["subject"], event["data"]["merchant_id"])
                and matches_event(wanted, event["data"])
            ]
            if events:
                await self._send({"type": "events", "events": events, "cursor": cursor_at(position)})
        return position

    @property
    def _reader(self) -> Caller:
        if self._caller is None:
            raise Refusal("unauthenticated", "There is no token.")
        return self._caller

    async def _send(self, message: Document) -> None:
        await self._socket.send_str(encode(message).decode())

    async def _stop_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
            self._sending = None


def _parsed(text: str) -> Document:
    try:
        message = decode(text)
    except ValueError as error:
        raise Refusal("malformed-json", f"Invalid JSON: {error}.") from None
    if not isinstance(message, dict):
        raise invalid("", "must be an object")
    return message


def _handshake_token(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
    return next((each.strip()[7:] for each in offered if each.strip().startswith("bearer.")), "")
