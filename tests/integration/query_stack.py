"""A query service on the tests' database, filled with orders that moved as real ones do."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from socket import AF_INET, IPPROTO_TCP, SO_RCVBUF, SOCK_STREAM, SOL_SOCKET, socket
from time import time
from typing import Any

import jwt
import orjson
import uvicorn
from aiohttp import AddrInfoType, ClientResponse, ClientSession, TCPConnector

from answers import Answer
from message_checks import check_event, check_order
from openapi_checks import check_answer
from tracking_order_state.domain.due_times import due_fields
from tracking_order_state.domain.overdue import mark_overdue
from tracking_order_state.domain.partition import PartitionPosition
from tracking_query.app import create_app
from tracking_query.log.long_polling import LongPolling
from tracking_query.settings import QuerySettings
from tracking_shared.contracts.access import Grant
from tracking_shared.contracts.documents import (
    EventDocument,
    OrderDocument,
    position_key,
    project,
    update_key,
)
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.storage.database import Database, open_database

SECRET = "a-secret-of-the-query-tests-0123456789"
PARTITIONS = 4
MERCHANTS = [f"m-{number}" for number in range(5)]
CONTACTS = [f"+49 30 {number}" for number in range(20)]
REFERENCES = ["#1000", "#1001", "WH/OUT/00012", "ä 7"]
START = datetime(2026, 3, 1, 8, tzinfo=UTC)


@dataclass
class World:
    """Everything that is in the database, also kept in plain lists to compare with."""

    orders: dict[str, OrderDocument] = field(default_factory=dict)
    events: list[EventDocument] = field(default_factory=list)
    seqs: list[int] = field(default_factory=lambda: [0] * PARTITIONS)

    def history(self, order_id: str) -> list[EventDocument]:
        return [event for event in self.events if event["order_id"] == order_id]

    def checkpoint(self, order_id: str, at: datetime, message: str = "nobody at home") -> EventDocument:
        """A failed attempt: of a final order, it notes when that came into its status."""
        order = self.orders[order_id]
        told: dict[str, Any] = {"type": "order.checkpoint_added", "kind": "delivery_attempted"}
        told |= {"message": message, "order_metadata": order["metadata"]}
        if not order["active"]:
            told["closed_at"] = order["closing"]["at"] if "closing" in order else order["updated_at"]
        return self.apply(order_id, order["status"], at, {}, **told)

    def correct(self, order_id: str, status: str, at: datetime, reason: str = "a mistake") -> EventDocument:
        told = {"type": "order.corrected", "reason": reason, "corrected_at": at}
        return self.apply(order_id, status, at, {}, **told)

    def apply(
        self, order_id: str, status: str, at: datetime, created: Mapping[str, Any], **told: Any
    ) -> EventDocument:
        """One applied change; `created` holds merchant and customer, `told` what no step has."""
        order = self.orders.get(order_id)
        partition = partition_of(order_id, PARTITIONS)
        self.seqs[partition] += 1
        version = order["version"] + 1 if order else 1
        metadata = {"step": version, "place": f"hub {version}"}
        active = DEFAULT_WORKFLOW.is_active(status)
        event: EventDocument = {
            "_id": position_key(partition, self.seqs[partition]),
            "order_id": order_id,
            "merchant_id": order["merchant_id"] if order else created["merchant_id"],
            "customer": order["customer"] if order else created["customer"],
            "version": version,
            "partition": partition,
            "seq": self.seqs[partition],
            "status": status,
            "previous_status": order["status"] if order else None,
            "active": active,
            "update_id": f"u-{order_id}-{version}",
            "source": {"type": "driver", "id": f"driver-{version}"},
            "occurred_at": None if version % 3 else at - timedelta(seconds=9),
            "received_at": at - timedelta(milliseconds=4),
            "recorded_at": at,
            "created_at": order["created_at"] if order else at,
            "metadata": metadata,
            "order_metadata": (order["metadata"] if order else {}) | metadata,
        }
        reference = (order or created).get("reference")
        if reference is not None:
            event["reference"] = reference
        event |= due_fields(order, active=active, due_at=created.get("due_at"), eta=created.get("eta"))  # type: ignore[typeddict-item]
        event |= told  # type: ignore[typeddict-item]
        return self._add(event)

    def announce(self, order_id: str, at: datetime) -> EventDocument:
        """The due time of an order has passed."""
        order = self.orders[order_id]
        position = PartitionPosition(order["partition"], self.seqs[order["partition"]], 0, {})
        [event] = mark_overdue([order], position, now=order["due_at"], time=at).events
        self.seqs[order["partition"]] += 1
        return self._add(event)

    def _add(self, event: EventDocument) -> EventDocument:
        self.events.append(event)
        self.orders[event["order_id"]] = project(event)
        return event


def new_order(random_: random.Random) -> dict[str, Any]:
    number = random_.randrange(len(CONTACTS))
    return {
        "merchant_id": random_.choice(MERCHANTS),
        "customer": {"name": f"Customer {number}", "contact_ref": CONTACTS[number]},
        "reference": REFERENCES[number % 4] if number % 2 else None,
    }


def random_world(orders: int, steps: int, seed: int = 7) -> World:
    """Orders created and moved by small commits; changes of one commit share their time. Most have a due
    time, and half of those that are open at the end are overdue.
    """
    random_ = random.Random(seed)
    world = World()
    at = START
    for number in range(orders):
        due = {"due_at": START + timedelta(minutes=number % 40), "eta": at} if number % 3 else {}
        world.apply(f"o-{number}", "created", at, new_order(random_) | due)
        at += timedelta(seconds=random_.choice([0, 0, 1, 60]))
        for _ in range(steps):
            order = world.orders[f"o-{random_.randrange(number + 1)}"]
            following = DEFAULT_WORKFLOW.allowed_next(order["status"])
            if following:
                world.apply(order["_id"], random_.choice(following), at, {})
    for order_id in [name for name, order in world.orders.items() if "due_key" in order][::2]:
        world.announce(order_id, at)
    return world


async def store(database: Database, world: World) -> None:
    await database.prepare(PARTITIONS)
    for start in range(0, len(world.events), 2000):
        await database.order_events.insert_many(world.events[start : start + 2000])
    orders = list(world.orders.values())
    for start in range(0, len(orders), 2000):
        await database.orders.insert_many(orders[start : start + 2000])
    for partition, seq in enumerate(world.seqs):
        await database.partitions.update_one({"_id": partition}, {"$set": {"seq": seq}})


async def store_update(database: Database, order_id: str, update_id: str, **fields: Any) -> None:
    document = {
        "_id": update_key(order_id, update_id),
        "order_id": order_id,
        "update_id": update_id,
        "fingerprint": "f",
        "outcome": "applied",
        "version": 1,
        "position": 1,
        "problem": None,
        "requested_status": "created",
        "merchant_id": "m-1",
        "source": {"type": "driver", "id": "driver-1"},
        "recorded_at": START,
    }
    await database.updates.insert_one(document | fields)  # type: ignore[arg-type]


def token(*, merchants: Sequence[str] = ("*",), orders: Sequence[str] | None = None, **claims: Any) -> str:
    content = {
        "sub": "reader",
        "scope": "orders:read",
        "merchants": list(merchants),
        "exp": time() + 3600,
    }
    if orders is not None:
        content["orders"] = list(orders)
    return jwt.encode(content | claims, SECRET, "HS256")


def token_of(grant: Grant) -> str:
    orders = None if grant.orders is None else sorted(grant.orders)
    return token(merchants=sorted(grant.merchants), orders=orders)


Params = Mapping[str, Any] | Sequence[tuple[str, Any]]


class QueryClient:
    """Calls the service as callers do."""

    def __init__(
        self,
        session: ClientSession,
        raw_session: ClientSession,
        database: Database,
        long_polling: LongPolling,
    ) -> None:
        self.long_polling = long_polling
        self._session = session
        self._raw_session = raw_session
        self.database = database

    @property
    def url(self) -> str:
        """The base URL of the service."""
        return str(self._session._base_url).rstrip("/")

    async def get(
        self,
        path: str,
        params: Params = (),
        *,
        token: str | None = None,
        headers: Mapping[str, str] = {},
        raw: bool = False,
    ) -> Answer:
        opened = self.opened(path, params, token=token, headers=headers, raw=raw)
        async with opened as response:
            body = await response.read()
        check_answer(
            "query", "GET", response.url.raw_path, status=response.status, headers=response.headers, body=body
        )
        return Answer(response.status, response.headers, body)

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] = {},
    ) -> Answer:
        """Another request than a read. `body`: bytes as they are, else as JSON."""
        sent = dict(headers) | ({} if token is None else {"Authorization": f"Bearer {token}"})
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        async with self._session.request(method, path, data=data, headers=sent) as response:
            content = await response.read()
        check_answer(
            "query",
            method,
            response.url.raw_path,
            status=response.status,
            headers=response.headers,
            body=content,
        )
        return Answer(response.status, response.headers, content)

    @asynccontextmanager
    async def opened(
        self,
        path: str,
        params: Params = (),
        *,
        token: str | None = None,
        headers: Mapping[str, str] = {},
        raw: bool = False,
    ) -> AsyncIterator[ClientResponse]:
        """The answer, to be read bit by bit; leaving it ends the connection.

        `raw`: it is not unpacked, and the kernel takes little of it before it is read.
        """
        sent = dict(headers)
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        pairs = list(params.items()) if isinstance(params, Mapping) else list(params)
        session = self._raw_session if raw else self._session
        async with session.get(path, params=pairs, headers=sent) as response:
            yield response

    async def all_pages(
        self, path: str, params: Sequence[tuple[str, Any]], items: str, *, token: str
    ) -> list[dict[str, Any]]:
        """Everything, page after page, by the cursor of each answer. Each item is as described."""
        listed = path.endswith("orders")
        found: list[dict[str, Any]] = []
        cursor: list[tuple[str, Any]] = []
        while True:
            answer = await self.get(path, [*params, *cursor], token=token)
            assert answer.status == 200, answer.body
            page = answer.json
            for item in page[items]:
                (check_order if listed else check_event)(item)
            found += page[items]
            if not (page["next_cursor"] if listed else page["has_more"]):
                return found
            cursor = [("cursor", page["next_cursor"])] if listed else [("after", page["cursor"])]


def _small_socket(address: AddrInfoType) -> socket:
    made = socket(*address[:3])
    made.setsockopt(SOL_SOCKET, SO_RCVBUF, 32 * 1024)
    made.setblocking(False)
    return made


@asynccontextmanager
async def running_query(
    mongodb_url: str, database_name: str | None = None, *, keep: bool = False, **variables: Any
) -> AsyncIterator[QueryClient]:
    """The service over its own database, on a port of its own. `keep` leaves the database as it is.
    `variables`: more settings.
    """
    settings = QuerySettings(
        amqp_url="amqp://unused",
        mongodb_url=mongodb_url,
        mongodb_database=database_name or f"test_query_{secrets.token_hex(6)}",
        jwt_secret=SECRET,
        partitions=PARTITIONS,
        **variables,
    )
    async with open_database(settings.mongodb_url, settings.mongodb_database) as database:
        long_polling = LongPolling(database, PARTITIONS)
        app = create_app(settings, database, DEFAULT_WORKFLOW, long_polling)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
        # Named as TCP: else the loop leaves Nagle on, which holds each answer back for 40 ms.
        listener = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            connector = TCPConnector(socket_factory=_small_socket)
            raw = ClientSession(url, auto_decompress=False, connector=connector)
            async with ClientSession(url) as session, raw:
                yield QueryClient(session, raw, database, long_polling)
        finally:
            server.should_exit = True
            await serving
        if not keep:
            await database.client.drop_database(settings.mongodb_database)
