"""A client of the notifier's WebSocket: live orders, across reconnects, without gap or repeat.

live = LiveOrders(url, token, {"merchant_id": ["acme"]})
async with aclosing(live.events()) as events:
    async for event in events:
        ...  # live.orders holds what this event, and those that came with it, led to

`LiveOrders` in web/tracking-live.js is the same for browsers; docs/live-updates.md describes both.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic, time

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from tracking.live_tokens import entitlement, refresh_in
from tracking.live_view import Document, Gap, GarbledMessage, OrderView, Snapshot, Told
from tracking.local_hosts import is_local
from tracking.problem_lines import problem_line

log = logging.getLogger(__name__)

FINAL_CLOSE_CODES = frozenset({4400, 4401, 4403, 4413})
"""Trying again with the same request would end the same way. Every other end asks for a reconnect."""

NOT_AUTHENTICATED = 4401
"""Final for the token that was refused; a fresh one is tried, once."""

FIRST_WAIT_SECONDS = 0.25
MAX_WAIT_SECONDS = 10.0
"""Waits double from the first to this one, each cut by a random part so that clients spread."""

STABLE_SECONDS = 10.0
"""A stream that was live for so long begins with the first wait again."""

CONNECT_SECONDS = 10.0
"""For the token, and again for the handshake."""

CLOSE_SECONDS = 2.0
"""For the server's answer to our close."""

SILENCE_SECONDS = 40.0
"""A server that has answered no ping for so long is gone."""

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Far more than the notifier sends in one message."""

Token = str | Callable[[], str | Awaitable[str]]


class TokenUnavailable(Exception):
    """For functions that give tokens to raise: there is none now, ask again later."""


_LATER = (OSError, TokenUnavailable)


class StreamRefused(Exception):
    """The notifier closed the stream for good. `problem` is its problem document, if it sent one."""

    def __init__(self, code: int, reason: str, problem: Document | None) -> None:
        why = problem_line(problem) if problem else ""
        super().__init__(why or f"closed with {code} {reason}".rstrip())
        self.code = code
        self.problem = problem


class State(StrEnum):
    """What a client is doing."""

    STOPPED = "stopped"
    """Not started, or told to stop."""
    CONNECTING = "connecting"
    CATCHING_UP = "catching-up"
    """Connected; the snapshot, or what was missed, is on its way. `orders` may be of earlier."""
    LIVE = "live"
    WAITING = "waiting"
    """The connection ended; there will be another attempt. `orders` is of earlier."""
    REFUSED = "refused"
    """The server will never serve this request."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a client is doing, and why."""

    state: State
    reason: str = ""
    """For a person: why it waits or was refused."""
    code: int | None = None
    """The close code, if the server closed with one."""
    retry_at: float | None = None
    """When the next attempt comes, in seconds of Unix time, while it waits."""
    problem: Document | None = None
    """The RFC 9457 document that the server sent before its close."""


Notice = Status | Snapshot | Gap | Told


class LiveOrders:
    """The orders that match a filter, kept current by their events.

    `token` is a token, or a function (or coroutine function) that gives a good one: it is asked before
    each connection and before a token expires, and may raise `OSError` or `TokenUnavailable` to be asked
    again later. `after` is a cursor of earlier; with it, or with `snapshot=False`, `orders` holds only
    what events brought. `listener` is told everything that is no event.
    """

    def __init__(
        self,
        url: str,
        token: Token,
        filter: Document | None = None,
        *,
        after: str | None = None,
        snapshot: bool = True,
        listener: Callable[[Notice], None] | None = None,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._url = url
        self._token = token
        self._listener = listener
        self._silence_seconds = silence_seconds
        self._view = OrderView(filter or {}, self._tell, after=after, snapshot=snapshot)
        self._unseen: deque[Document] = deque()  # of one message: applied, and not handed out yet
        self._subscribed_token = ""
        self._newest_token = ""  # that the server was given on this connection
        self._spare_token: str | None = None  # got to compare it with the one that was refused
        self._snapshot_of: Document | None = None  # whose orders these are
        self._unserved_tokens = 0  # refused one after the other, before anything else came
        self._failures = 0
        self._live_since: float | None = None
        self._problem: Document | None = None
        self.status = Status(State.STOPPED)
        """What it is doing."""
        self.cursor = after
        """Everything up to here was handed out; keep it to go on later. None while a snapshot arrives."""
        self.connections = 0
        """Opened so far; more than 1 means that the stream was interrupted."""
        self.live = asyncio.Event()
        """Set while the state is `LIVE`."""

    @property
    def orders(self) -> dict[str, Document]:
        """By order id, as REST shows them. A snapshot replaces the whole."""
        return self._view.orders

    @property
    def gaps(self) -> int:
        """How often versions were found missing; anything but 0 is a fault of the server."""
        return self._view.gaps

    async def events(self) -> AsyncGenerator[Document, None]:
        """Every event once (CloudEvents), in version order per order, until the caller stops.

        Between an interruption without a cursor, or a resync, and the next snapshot there are no events:
        `listener` gets a `Snapshot` instead.

        Raises:
            StreamRefused: the request will never be served: bad, not authenticated, forbidden.
            Exception: what the token function raised, if it does not mean "later".
        """
        try:
            while True:
                try:
                    async with aclosing(self._connection()) as events:
                        async for event in events:
                            yield event
                except (*_LATER, WebSocketException, GarbledMessage) as error:
                    close = error.rcvd if isinstance(error, ConnectionClosed) else None
                    if close is None:
                        await self._wait(_words_of(error), None)
                    elif await self._is_final(close.code):
                        raise self._refusal(close.code, close.reason) from error
                    else:
                        await self._wait(close.reason or f"closed with {close.code}", close.code)
        finally:
            if self.status.state is not State.REFUSED:
                self._become(Status(State.STOPPED))

    async def _connection(self) -> AsyncGenerator[Document, None]:
        for event in self._hand_out():  # left over from a caller that stopped in the middle of a message
            yield event
        self._become(Status(State.CONNECTING))
        self._problem = None
        token, self._spare_token = self._spare_token or await self._ask_token(), None
        async with connect(
            self._url,
            proxy=None if is_local(self._url) else True,
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            open_timeout=CONNECT_SECONDS,
            close_timeout=CLOSE_SECONDS,
            ping_interval=self._silence_seconds / 2,
            ping_timeout=self._silence_seconds / 2,
        ) as socket:
            self.connections += 1
            await socket.send(self._subscribe(token), text=True)
            self._become(Status(State.CATCHING_UP))
            async with self._refreshing(socket):
                while True:
                    self._take(await socket.recv())
                    for event in self._hand_out():
                        yield event

    def _subscribe(self, token: str) -> bytes:
        self._subscribed_token = self._newest_token = token
        if self._view.from_snapshot and entitlement(token) != self._snapshot_of:
            # A cursor would not bring the orders that are new to this token, nor take away the others.
            self._view.forget("entitlement-changed")
        return orjson.dumps({"type": "subscribe", "token": token, "heartbeat": True} | self._view.request())

    def _take(self, data: str | bytes) -> None:
        message = _parsed(data)
        self._unseen.extend(self._view.take(message))
        kind = message["type"]
        if kind != "problem":
            self._unserved_tokens = 0
        if kind == "resync":
            log.info("resync: %s", message["reason"])
            self._become(Status(State.CATCHING_UP, message["reason"]))
        elif kind == "live":
            self._live_since = monotonic()
            self._become(Status(State.LIVE))

    def _hand_out(self) -> Iterator[Document]:
        while self._unseen:
            yield self._unseen.popleft()
        self.cursor = self._view.cursor

    async def _ask_token(self) -> str:
        if isinstance(self._token, str):
            return self._token
        token = self._token()
        if isinstance(token, str):
            return token
        async with asyncio.timeout(CONNECT_SECONDS):
            return await token

    @asynccontextmanager
    async def _refreshing(self, socket: ClientConnection) -> AsyncIterator[None]:
        task = asyncio.create_task(self._refresh(socket))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, ConnectionClosed):
                await task

    async def _refresh(self, socket: ClientConnection) -> None:
        """Hands over a fresh token each time before the newest one expires."""
        wait = None if isinstance(self._token, str) else refresh_in(self._newest_token)
        while wait is not None:
            await asyncio.sleep(wait)
            token = await self._fresh_token()
            if token is not None:
                await socket.send(orjson.dumps({"type": "refresh", "token": token}), text=True)
                self._newest_token = token
            wait = refresh_in(self._newest_token, again=token is None)

    async def _fresh_token(self) -> str | None:
        try:
            token = await self._ask_token()
        except _LATER as error:
            log.info("no fresh token: %s", _words_of(error))
            return None
        return None if token == self._newest_token else token

    async def _is_final(self, code: int) -> bool:
        if code != NOT_AUTHENTICATED:
            return code in FINAL_CLOSE_CODES
        self._unserved_tokens += 1
        if self._unserved_tokens > 1:
            return True  # a fresh one was refused, too
        self._become(Status(State.CONNECTING))
        with suppress(*_LATER):
            self._spare_token = await self._ask_token()
            return self._spare_token == self._subscribed_token
        return False

    def _refusal(self, code: int, reason: str) -> StreamRefused:
        refusal = StreamRefused(code, reason, self._problem)
        self._become(Status(State.REFUSED, str(refusal), code, problem=self._problem))
        return refusal

    async def _wait(self, reason: str, code: int | None) -> None:
        if self._live_since is not None and monotonic() - self._live_since >= STABLE_SECONDS:
            self._failures = 0
        self._live_since = None
        self._failures += 1
        seconds = wait_seconds(self._failures)
        log.info("stream interrupted: %s; the next attempt in %.1f s", reason, seconds)
        self._become(Status(State.WAITING, reason, code, time() + seconds, self._problem))
        await asyncio.sleep(seconds)

    def _become(self, status: Status) -> None:
        self.status = status
        if status.state is State.LIVE:
            self.live.set()
        else:
            self.live.clear()
        self._tell(status)

    def _tell(self, notice: Notice) -> None:
        match notice:
            case Snapshot():
                self._snapshot_of = entitlement(self._newest_token)
            case Gap():
                log.error("order %s: version %d follows %s", notice.order_id, notice.version, notice.after)
            case Told():
                self._problem = notice.problem
                self._newest_token = self._subscribed_token  # what was refused may be the newest one
        if self._listener:
            self._listener(notice)


def wait_seconds(failures: int) -> float:
    """How long to wait after so many failures (1 and more) in a row."""
    longest = min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(failures - 1, 10))
    return longest * random.uniform(0.5, 1.0)


def _parsed(data: str | bytes) -> Document:
    try:
        message = orjson.loads(data) if isinstance(data, str) else None
    except orjson.JSONDecodeError:
        message = None
    if not isinstance(message, dict):
        raise GarbledMessage("a message that is no JSON object")
    return message


def _words_of(error: Exception) -> str:
    return str(error) or type(error).__name__
