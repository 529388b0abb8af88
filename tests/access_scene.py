"""A running stack with orders of several merchants, in which every text that says something of somebody is
unlike all others: whatever a caller receives, it can be told from the bare bytes whose it is.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import jwt
import orjson
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it has no types
from aiohttp import ClientSession, ClientTimeout, TCPConnector
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from answers import Answer
from callers import JWT_SECRET, eventually
from forked_services import ForkedService
from positions import position_of
from stored_outcomes import stored_outcomes
from tracking.devstack.service_process import ServiceProcess
from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.documents import EventDocument, OrderDocument, UpdateDocument
from tracking_shared.storage.database import Database, open_database

PARTITIONS = 2
STATUSES = ["created", "picked_up", "in_transit", "delivered", "cancelled"]

PARQUET = "application/vnd.apache.parquet"

MARK = re.compile(rb"\b(?:mrc|ord|r|nam|con|drv|met|upd)-[0-9a-z]+")
"""Merchant, order, order of a reference, name, contact, whoever reports, metadata, update."""

REFERRED = "byref"
"""At the end of the names of an order with a reference."""

Marks = frozenset[str]


def marks(body: bytes) -> Marks:
    """All that a text says of anybody."""
    return frozenset(found.decode() for found in MARK.findall(body))


@dataclass
class Truth:
    """What the database holds, as it is."""

    orders: dict[str, OrderDocument]
    events: list[EventDocument]
    updates: dict[str, UpdateDocument]


@dataclass
class Scene:
    """The services, and callers of them."""

    services: Mapping[str, ServiceProcess]
    database: Database
    session: ClientSession
    logs: Path
    tokens_used: set[str] = field(default_factory=set)
    first_updates: dict[str, str] = field(default_factory=dict)
    """By order: the update that created it."""
    referenced: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By the order id of a like order: the merchant, and the id of its order with a reference."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _numbers: Iterator[int] = field(default_factory=count)

    def token(self, claims: Mapping[str, Any], secret: str = JWT_SECRET) -> str:
        made = jwt.encode({"exp": time.time() + 600, **claims}, secret, "HS256")
        self.tokens_used.add(made)
        return made

    @property
    def admin(self) -> str:
        return self.token({"sub": "drv-admin", "scope": "orders:admin"})

    async def call(
        self, service: str, method: str, path: str, token: str | None, json: Any = None, **headers: str
    ) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        url = self.services[service].url + path
        async with self.session.request(method, url, json=json, headers=sent) as response:
            body = await response.read()
            if response.headers.get("Content-Type") == PARQUET:  # packed: nothing could be seen in its bytes
                body = orjson.dumps(pq.read_table(BytesIO(body)).to_pylist())
            return Answer(response.status, response.headers, body)

    async def create(self, name: str, merchant: str, token: str) -> Answer:
        """An order `ord-name` with marks of its own."""
        body = {
            "order_id": f"ord-{name}",
            "merchant_id": merchant,
            "customer": {"name": f"nam-{name}", "contact_ref": f"con-{name}"},
            "metadata": {"note": f"met-{self._number()}"},
        }
        key = f"upd-{self._number()}"
        self.first_updates[f"ord-{name}"] = key
        return await self.call("ingest", "POST", "/v1/orders", token, body, Idempotency_Key=key)

    async def refer(self, name: str, merchant: str, steps: Sequence[str]) -> None:
        """An order with the reference `#name`, and an id that is derived from it."""
        body = {
            "merchant_id": merchant,
            "reference": f"#{name}",
            "customer": {"name": f"nam-{name}{REFERRED}", "contact_ref": f"con-{name}{REFERRED}"},
            "metadata": {"note": f"met-{self._number()}"},
        }
        key = f"upd-{self._number()}"
        created = await self.call("ingest", "POST", "/v1/orders", self.reporter(), body, Idempotency_Key=key)
        order_id = str(created.json["order_id"])
        self.referenced[f"ord-{name}"] = (merchant, order_id)
        for status in steps:
            assert (await self.update(order_id, status, self.reporter())).status == 200

    async def update(self, order_id: str, status: str, token: str, path: str = "") -> Answer:
        """Reports a status with marks of its own."""
        body = {"status": status, "metadata": {"note": f"met-{self._number()}"}}
        key = f"upd-{self._number()}"
        path = path or f"/v1/orders/{order_id}/updates"
        return await self.call("ingest", "POST", path, token, body, Idempotency_Key=key)

    async def checkpoint(self, path: str, token: str) -> Answer:
        """Adds a note with marks of its own."""
        body = {"kind": "note", "message": "ring twice", "metadata": {"note": f"met-{self._number()}"}}
        return await self._change(path, body, token)

    async def correct(self, path: str, status: str, token: str) -> Answer:
        """Corrects the status with marks of its own."""
        note = f"met-{self._number()}"
        body = {"status": status, "reason": "scanned another one", "metadata": {"note": note}}
        return await self._change(path, body, token)

    async def _change(self, path: str, body: dict[str, Any], token: str) -> Answer:
        key = f"upd-{self._number()}"
        return await self.call("ingest", "POST", path, token, body, Idempotency_Key=key)

    async def live(self, name: str, merchant: str, steps: Sequence[str]) -> str:
        """An order with some history: each change by somebody else, and one that was refused."""
        assert (await self.create(name, merchant, self.reporter())).status == 201
        order_id = f"ord-{name}"
        for status in [*steps, "created"]:
            answer = await self.update(order_id, status, self.reporter())
            assert answer.status == (409 if status == "created" else 200)
        return order_id

    def operation(self, order_id: str, status: str) -> dict[str, Any]:
        """One operation of a batch, with marks of its own."""
        note, update_id = f"met-{self._number()}", f"upd-{self._number()}"
        of_order = {"op": "update", "order_id": order_id, "status": status}
        return of_order | {"update_id": update_id, "metadata": {"note": note}}

    def reporter(self) -> str:
        """A token of somebody who reports, each time somebody else."""
        subject = f"drv-{self._number()}"
        return self.token(
            {"sub": subject, "source_type": "driver", "scope": "orders:write", "merchants": ["*"]}
        )

    def _number(self) -> int:
        return next(self._numbers)

    async def truth(self) -> Truth:
        """The documents."""
        orders = await self.database.orders.find({}).to_list()
        updates = await stored_outcomes(self.database)
        events = await self.database.order_events.find({}).to_list()
        return Truth({order["_id"]: order for order in orders}, events, updates)

    async def end_of_log(self) -> Position:
        heads = await self.database.partitions.find({}).to_list()
        heads.sort(key=lambda head: head["_id"])
        return Position(heads[0]["epoch"], tuple(head["seq"] for head in heads))

    def viewer(self, token: str) -> "Viewer":
        return Viewer(self.services["notifier"].stream_url, token, partial(position_of, self.database))


@dataclass
class Viewer:
    """A dashboard of all statuses: what it was sent, in bytes, and where it stands."""

    url: str
    token: str
    opened: Callable[[str], Awaitable[Position]] | None = None
    """What its cursors stand for."""
    snapshot: bytes = b""
    events: bytes = b""
    live: asyncio.Event = field(default_factory=asyncio.Event)
    close_code: int | None = None
    cursor: str = ""

    async def run(self) -> None:
        request = {
            "type": "subscribe",
            "token": self.token,
            "filter": {"status": STATUSES},
            "heartbeat": True,
        }
        async with connect(self.url, compression=None, max_size=None) as socket:
            await socket.send(orjson.dumps(request), text=True)
            try:
                while True:
                    self._take(await socket.recv(decode=False))
            except ConnectionClosed:
                self.close_code = socket.close_code
                self.live.set()

    def _take(self, data: bytes) -> None:
        message = orjson.loads(data)
        if "cursor" in message:
            self.cursor = message["cursor"]
        if message["type"] == "live":
            self.live.set()
        elif self.live.is_set():
            self.events += data
        else:
            self.snapshot += data

    async def reach(self, end: Position) -> None:
        """Returns when all up to there was delivered, or the connection has ended."""
        await eventually(partial(self._is_through, end))

    async def _is_through(self, end: Position) -> bool:
        if self.close_code is not None or not self.cursor or self.opened is None:
            return self.close_code is not None
        position = await self.opened(self.cursor)
        return all(seq >= last for seq, last in zip(position.seqs, end.seqs, strict=True))


@asynccontextmanager
async def running_scene(environment: Mapping[str, str], logs: Path) -> AsyncIterator[Scene]:
    """The services on an empty virtual host and database."""
    shared = {**environment, "PARTITIONS": str(PARTITIONS)}
    own = {
        # A viewer here may be busy with other things for a second, and must not be cut as a dead one then.
        "notifier": {"NOTIFIER_HEARTBEAT_SECONDS": "2", "NOTIFIER_STOP_SECONDS": "0"},
        "query": {},
        "ingest": {},
        "order_state": {},
        "webhooks": {},
    }
    async with AsyncExitStack() as opened:
        services = {}
        for module, more in own.items():
            service = ForkedService(module, environment=shared | more, logs=logs, name=module)
            opened.push_async_callback(service.stop)
            service.launch()
            services[module] = service
        await asyncio.gather(*(service.start() for service in services.values()))
        database = await opened.enter_async_context(
            open_database(shared["MONGODB_URL"], shared["MONGODB_DATABASE"])
        )
        session = await opened.enter_async_context(
            ClientSession(timeout=ClientTimeout(total=30), connector=TCPConnector(limit=16))
        )
        yield Scene(services, database, session, logs)
