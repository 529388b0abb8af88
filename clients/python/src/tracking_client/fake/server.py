"""The fake server: its address, its tokens, and the faults that a test asks for."""

from collections.abc import Collection
from secrets import token_hex
from time import time
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tracking_client.fake.access import make_token
from tracking_client.fake.faults import Faults
from tracking_client.fake.order_book import Document, OrderBook
from tracking_client.fake.routes import Routes
from tracking_client.fake.stream import Streams

ALL_SCOPES = "orders:read orders:write orders:correct"


class FakeServer:
    """Serves ingest, query and the stream on one port of this machine, from memory.

    async with FakeServer() as server:
        async with Sender(server.url, server.token()) as sender:
            ...
    """

    def __init__(self) -> None:
        self.jwt_secret = token_hex(32)
        """Tokens are signed with it (HS256)."""
        self.faults = Faults()
        """Faults to ask for."""
        self.url = ""
        """The address of ingest and of query."""
        self._book = OrderBook()
        self._streams = Streams(self._book, self.jwt_secret)
        self._routes = Routes(self._book, self.faults, self.jwt_secret, self._streams.wake)
        self._runner: web.AppRunner | None = None

    @property
    def stream_url(self) -> str:
        """The address of the live stream."""
        return f"{self.url.replace('http', 'ws', 1)}/v1/stream"

    @property
    def orders(self) -> dict[str, Document]:
        """All orders by id, as the HTTP API shows them. To be read only."""
        return self._book.orders

    @property
    def events(self) -> list[Document]:
        """All events (CloudEvents) in their order. To be read only."""
        return self._book.log

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(
            self._routes.application(self._streams.serve), access_log=None, shutdown_timeout=1.0
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._streams.close_all()
        if self._runner is not None:
            await self._runner.cleanup()

    def token(
        self,
        *,
        sub: str = "test",
        scope: str = ALL_SCOPES,
        merchants: Collection[str] = ("*",),
        orders: Collection[str] | None = None,
        source_type: str = "system",
        ttl_seconds: float = 3600.0,
    ) -> str:
        """A token. By default it may do everything except administer."""
        claims: dict[str, Any] = {"sub": sub, "scope": scope, "source_type": source_type}
        claims |= {"merchants": list(merchants), "iat": int(time()), "exp": time() + ttl_seconds}
        if orders is not None:
            claims["orders"] = list(orders)
        return make_token(self.jwt_secret, claims)

    async def restart_streams(self) -> None:
        """Closes all streams as a restart of the notifier does."""
        await self._streams.close_all()
