"""A client of the notifier's WebSocket: live orders, across reconnects, without gap or repeat.

live = LiveOrders(url, token, {"merchant_id": ["acme"]})
async with aclosing(live.events()) as events:
    async for event in events:
        ...  # live.orders is consistent with everything seen so far
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import orjson
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, WebSocketException

log = logging.getLogger(__name__)

FINAL_CLOSE_CODES = frozenset({4400, 4401, 4403, 4413})
"""Trying again with the same request would end the same way. Every other end asks for a reconnect."""

FIRST_WAIT_SECONDS = 0.25
MAX_WAIT_SECONDS = 10.0
"""Waits double from the first to this one, each cut by a random part so that clients spread."""

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Far more than the notifier sends in one message."""

Document = dict[str, Any]


class StreamRefused(Exception):
    """The notifier closed the stream for good. `problem` is its problem document, if it sent one."""

    def __init__(self, code: int, reason: str, problem: Document | None) -> None:
        super().__init__(problem["detail"] if problem else f"closed with {code} {reason}".rstrip())
        self.code = code
        self.problem = problem


class LiveOrders:
    """The orders that match a filter, kept current by their events.

    `token` is a token or a function that gives a fresh one, asked before each connection. `after` is
    a cursor of earlier; with it, or with `snapshot=False`, `orders` holds only what events brought.
    """

    def __init__(
        self,
        url: str,
        token: str | Callable[[], str],
        filter: Document | None = None,
        *,
        after: str | None = None,
        snapshot: bool | None = None,
    ) -> None:
        self._url = url
        self._token: Callable[[], str] = token if callable(token) else lambda: token
        self._filter = filter or {}
        self._snapshot = snapshot
        self._arriving: dict[str, Document] | None = None  # pages of a snapshot that is not whole yet
        self._failures = 0
        self._problem: Document | None = None
        self._used_token = ""
        self.orders: dict[str, Document] = {}
        """By order id, as REST shows them."""
        self.cursor = after
        """Everything up to here was handed out; keep it to go on later."""
        self.gaps = 0
        """Versions found missing; anything but 0 is a fault of the server."""
        self.connections = 0
        """Opened so far; more than 1 means that the stream was interrupted."""
        self.live = asyncio.Event()
        """Set while connected and past what was missed."""

    async def events(self) -> AsyncGenerator[Document, None]:
        """Every event once (CloudEvents), in version order per order, until the caller stops.

        Raises:
            StreamRefused: the request will never be served: bad, not authenticated, forbidden.
        """
        while True:
            try:
                async with connect(self._url, compression=None, max_size=MAX_MESSAGE_BYTES) as socket:
                    self.connections += 1
                    await socket.send(orjson.dumps(self._subscribe()), text=True)
                    async for message in socket:
                        for event in self._take(orjson.loads(message)):
                            yield event
            except (OSError, WebSocketException) as error:
                self._end_if_final(error)
                log.info("stream interrupted: %r", error)
            self.live.clear()
            self._failures += 1
            await asyncio.sleep(_wait_seconds(self._failures))

    def _subscribe(self) -> Document:
        self._arriving, self._problem = None, None
        self._used_token = self._token()
        request: Document = {"type": "subscribe", "token": self._used_token, "filter": self._filter}
        if self.cursor is not None:
            request["after"] = self.cursor
        elif self._snapshot is not None:
            request["snapshot"] = self._snapshot
        return request

    def _take(self, message: Document) -> Iterator[Document]:
        match message["type"]:
            case "snapshot":
                self._take_page(message["orders"], more=message["more"])
            case "events":
                yield from filter(self._apply, message["events"])
                self.cursor = message["cursor"]
            case "resync":
                log.info("resync: %s", message["reason"])
                self._arriving = {}
                self.cursor = None  # until the snapshot is whole, only another one helps after a reconnect
            case "live":
                self.cursor = message["cursor"]
                self._failures = 0
                self.live.set()
            case "problem":
                self._problem = message["problem"]

    def _take_page(self, orders: list[Document], *, more: bool) -> None:
        if self._arriving is None:
            self._arriving = {}
        self._arriving |= {order["order_id"]: order for order in orders}
        if not more:
            self.orders, self._arriving = self._arriving, None

    def _apply(self, event: Document) -> bool:
        """Brings `orders` up to date; False for an event that it holds already."""
        data = event["data"]
        order_id, version = data["order_id"], data["version"]
        known = self.orders.get(order_id)
        if known is not None:
            if version <= known["version"]:
                return False
            if version > known["version"] + 1:
                self.gaps += 1
                log.error("order %s: version %d follows %d", order_id, version, known["version"])
        if self._matches(data["status"], active=data["active"]):
            self.orders[order_id] = order_after(event)
        else:
            self.orders.pop(order_id, None)
        return True

    def _matches(self, status: str, *, active: bool) -> bool:
        if "status" in self._filter and status not in self._filter["status"]:
            return False
        wanted = self._filter.get("active")
        if wanted is None and not {"status", "order_id"} & self._filter.keys():
            wanted = True
        return wanted is None or bool(wanted) is active

    def _end_if_final(self, error: Exception) -> None:
        close = error.rcvd if isinstance(error, ConnectionClosedError) else None
        if close is None or close.code not in FINAL_CLOSE_CODES:
            return
        if close.code == 4401 and self._token() != self._used_token:
            return  # expired, and there is a fresh one
        raise StreamRefused(close.code, close.reason, self._problem) from error


def order_after(event: Document) -> Document:
    """The order as REST shows it after this event."""
    data = event["data"]
    order = {name: data[name] for name in ("order_id", "merchant_id")}
    if "customer" in data:
        order["customer"] = data["customer"]
    order |= {name: data[name] for name in ("status", "version", "active", "created_at")}
    return order | {
        "updated_at": data["recorded_at"],
        "source": data["source"],
        "metadata": data["order_metadata"],
        "allowed_next": data["allowed_next"],
    }


def _wait_seconds(failures: int) -> float:
    longest = min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(failures - 1, 10))
    return longest * random.uniform(0.5, 1.0)
