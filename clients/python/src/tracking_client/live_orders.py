"""A client of the notifier's WebSocket: live orders across reconnects, without gaps or repeats.

live = LiveOrders(url, token, {"merchant_id": ["acme"]})
async with aclosing(live.events()) as events:
    async for event in events:
        ...  # live.orders includes this event, and the others of its message

`LiveOrders` in clients/js/tracking-live.js is the same for browsers; docs/live-updates.md describes both.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic, time
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from tracking_client.addresses import is_local
from tracking_client.errors import TokenUnavailable, TrackingClientError
from tracking_client.json_text import decode, encode
from tracking_client.order_view import (
    Document,
    Gap,
    GarbledMessage,
    OrderView,
    ProblemReceived,
    Snapshot,
)
from tracking_client.token_claims import entitlement, refresh_in
from tracking_client.tokens import Token, ask_token

log = logging.getLogger(__name__)

MAX_ERRORS_SHOWN = 3


def problem_line(problem: dict[str, Any]) -> str:
    """The first validation errors of a problem document, or else its detail, or else ""."""
    errors = problem.get("errors") or []
    text = "; ".join(f"{error['pointer']} {error['message']}" for error in errors[:MAX_ERRORS_SHOWN])
    return text or str(problem.get("detail") or "")


FINAL_CLOSE_CODES = frozenset({4400, 4401, 4403, 4413})
"""A retry of the same request would end the same way. After every other close, the client reconnects."""

NOT_AUTHENTICATED = 4401
"""Final for the refused token; one fresh token is tried."""

FIRST_WAIT_SECONDS = 0.25
MAX_WAIT_SECONDS = 10.0
"""Waits double from the first to this one, each with jitter so that clients spread."""

STABLE_SECONDS = 10.0
"""After a stream was live this long, the next wait is the first one again."""

CONNECT_SECONDS = 10.0
"""The time limit for the handshake."""

CLOSE_SECONDS = 2.0
"""The time limit for the server's answer to our close."""

SILENCE_SECONDS = 40.0
"""A server that answers no ping for this long is considered dead."""

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Far more than the notifier sends in one message."""

_TRANSIENT = (OSError, TokenUnavailable)


class StreamRefused(TrackingClientError):
    """The notifier closed the stream for good. `problem` is its problem document, if any."""

    def __init__(self, code: int, reason: str, problem: Document | None) -> None:
        message = problem_line(problem) if problem else ""
        super().__init__(message or f"closed with {code} {reason}".rstrip())
        self.code = code
        self.problem = problem


class State(StrEnum):
    """The states of a client."""

    STOPPED = "stopped"
    """Not started, or stopped by the caller."""
    CONNECTING = "connecting"
    CATCHING_UP = "catching-up"
    """Connected, and receiving the snapshot or the missed events. `orders` may be outdated."""
    LIVE = "live"
    WAITING = "waiting"
    """The connection ended; another attempt follows. `orders` is outdated."""
    REFUSED = "refused"
    """The server will never serve this request."""


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a client, and the reason for it."""

    state: State
    reason: str = ""
    """The reason for waiting, or for the refusal."""
    code: int | None = None
    """The close code, if the server closed with one."""
    retry_at: float | None = None
    """The time of the next attempt as Unix time, while it waits."""
    problem: Document | None = None
    """The RFC 9457 document that the server sent before its close."""


Notice = Status | Snapshot | Gap | ProblemReceived


class LiveOrders:
    """The orders that match a filter, kept current by their events.

    `token` is a token, or a function (or coroutine function) that returns one. The function is called before
    each connection and before a token expires, and may raise `OSError` or `TokenUnavailable` to be called
    again later. `after` is an earlier cursor; with it, or with `snapshot=False`, `orders` contains only
    orders with events since then. `listener` is called with everything that is not an event.
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
        self._view = OrderView(filter or {}, self._notify, after=after, snapshot=snapshot)
        self._unseen: deque[Document] = deque()  # events of one message: applied, but not yielded yet
        self._subscribed_token = ""
        self._newest_token = ""  # sent on this connection
        self._spare_token: str | None = None  # fetched to compare it with the refused one
        self._snapshot_of: Document | None = None  # the entitlement of `orders`
        self._unserved_tokens = 0  # refused in succession
        self._failures = 0
        self._live_since: float | None = None
        self._problem: Document | None = None
        self.status = Status(State.STOPPED)
        """The current state."""
        self.cursor = after
        """All events up to here were yielded; store it to resume later. None while a snapshot arrives."""
        self.connections = 0
        """The number of connections so far; more than 1 after an interruption."""
        self.live = asyncio.Event()
        """Set while the state is `LIVE`."""

    @property
    def orders(self) -> dict[str, Document]:
        """By order id, in the format of the HTTP API. A snapshot replaces all of them."""
        return self._view.orders

    @property
    def gaps(self) -> int:
        """The number of gaps in versions; not 0 only after a fault of the server."""
        return self._view.gaps

    async def events(self) -> AsyncGenerator[Document, None]:
        """Yields every event once (CloudEvents), in version order per order, until the caller stops.

        Between an interruption without a cursor, or a resync, and the next snapshot there are no events:
        `listener` gets a `Snapshot` instead.

        Raises:
            StreamRefused: the request is invalid, not authenticated or forbidden.
            Exception: an error of the token function, other than those for "later".
        """
        try:
            while True:
                try:
                    async with aclosing(self._connection()) as events:
                        async for event in events:
                            yield event
                except (*_TRANSIENT, WebSocketException, GarbledMessage) as error:
                    close = error.rcvd if isinstance(error, ConnectionClosed) else None
                    if close is None:
                        await self._wait(_message_of(error), None)
                    elif await self._is_final(close.code):
                        raise self._refusal(close.code, close.reason) from error
                    else:
                        await self._wait(close.reason or f"closed with {close.code}", close.code)
        finally:
            if self.status.state is not State.REFUSED:
                self._become(Status(State.STOPPED))

    async def _connection(self) -> AsyncGenerator[Document, None]:
        for event in self._pending():  # left by a caller that stopped in the middle of a message
            yield event
        self._become(Status(State.CONNECTING))
        self._problem = None
        token, self._spare_token = self._spare_token or await ask_token(self._token), None
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
                    for event in self._pending():
                        yield event

    def _subscribe(self, token: str) -> bytes:
        self._subscribed_token = self._newest_token = token
        if self._view.from_snapshot and entitlement(token) != self._snapshot_of:
            # A cursor neither adds the orders that are new to this token, nor removes the others.
            self._view.forget("entitlement-changed")
        return encode({"type": "subscribe", "token": token, "heartbeat": True} | self._view.request())

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

    def _pending(self) -> Iterator[Document]:
        while self._unseen:
            yield self._unseen.popleft()
        self.cursor = self._view.cursor

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
        """Sends a fresh token each time before the newest one expires."""
        wait = None if isinstance(self._token, str) else refresh_in(self._newest_token)
        while wait is not None:
            await asyncio.sleep(wait)
            token = await self._fresh_token()
            if token is not None:
                await socket.send(encode({"type": "refresh", "token": token}), text=True)
                self._newest_token = token
            wait = refresh_in(self._newest_token, again=token is None)

    async def _fresh_token(self) -> str | None:
        try:
            token = await ask_token(self._token)
        except _TRANSIENT as error:
            log.info("no fresh token: %s", _message_of(error))
            return None
        return None if token == self._newest_token else token

    async def _is_final(self, code: int) -> bool:
        if code != NOT_AUTHENTICATED:
            return code in FINAL_CLOSE_CODES
        self._unserved_tokens += 1
        if self._unserved_tokens > 1:
            return True  # a fresh token was refused too
        self._become(Status(State.CONNECTING))
        with suppress(*_TRANSIENT):
            self._spare_token = await ask_token(self._token)
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
        self._notify(status)

    def _notify(self, notice: Notice) -> None:
        match notice:
            case Snapshot():
                self._snapshot_of = entitlement(self._newest_token)
            case Gap():
                log.error("order %s: version %d follows %s", notice.order_id, notice.version, notice.after)
            case ProblemReceived():
                self._problem = notice.problem
                self._newest_token = self._subscribed_token  # the refused token may be the newest one
        if self._listener:
            self._listener(notice)


def wait_seconds(failures: int) -> float:
    """The wait after this number of failures (1 or more) in a row."""
    longest = min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(failures - 1, 10))
    return longest * random.uniform(0.5, 1.0)


def _parsed(data: str | bytes) -> Document:
    try:
        message = decode(data) if isinstance(data, str) else None
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise GarbledMessage("a message that is no JSON object")
    return message


def _message_of(error: Exception) -> str:
    return str(error) or type(error).__name__
