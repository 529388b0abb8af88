"""What the services say to each other on the broker, and of themselves, is as described."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import orjson
import pytest
from aiohttp import ClientSession

from builders import create_command, update_command
from callers import Caller, eventually, token
from fixtures import PARTITIONS, Spine, StartService
from listeners import listening, waiting
from message_checks import check_message
from tracking_notifier.stream.stream_asyncapi import asyncapi_document
from tracking_shared.contracts.access import Grant
from tracking_shared.contracts.commands import (
    COMMANDS_MEDIA_TYPE,
    CreateOrder,
    Outcome,
    UpdateOrder,
    decode_commands,
    encode_command,
    join_commands,
)
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.messaging.connection import connect
from tracking_shared.messaging.topology import COMMANDS_EXCHANGE, routing_key
from tracking_shared.storage.database import open_database

CUSTOMER = {"name": "Ada", "contact_ref": "crm-1"}
TIME = "2026-03-01T10:00:00+02:00"


@pytest.fixture
async def lonely_ingest(
    service_environment: dict[str, str], start_service: StartService
) -> AsyncIterator[Caller]:
    """A caller of an ingest behind which no order-state runs."""
    service_environment["PARTITIONS"] = str(PARTITIONS)
    url, name = service_environment["MONGODB_URL"], service_environment["MONGODB_DATABASE"]
    async with open_database(url, name) as database:
        await database.prepare(PARTITIONS)
    ingest = await start_service("ingest")
    async with Caller([ingest.url]) as caller:
        yield caller


async def test_the_commands_that_ingest_sends_are_as_described(
    lonely_ingest: Caller, service_environment: dict[str, str]
) -> None:
    order_id = f"o-{uuid4().hex}"
    path, order = f"/v1/orders/{order_id}/updates", {"merchant_id": "m-1", "customer": CUSTOMER}
    narrow = token(merchants=["m-1"], orders=[order_id], source_type="driver")
    full = {"metadata": {"a": [1, {"b": None}]}, "occurred_at": TIME}
    later = {"Prefer": "respond-async"}
    lines = [order | {"op": "create"}, {"op": "update", "order_id": order_id, "status": "cancelled"}]
    answers = [
        await lonely_ingest.post("/v1/orders", order | full | {"order_id": order_id}, **later),
        await lonely_ingest.post(path, {"status": "picked_up"}, bearer=narrow, **later),
        await lonely_ingest.post(
            path, {"status": "in_transit", "expected_version": 2} | full, Prefer="wait=1"
        ),
        await lonely_ingest.post("/v1/batch", lines, **later),
    ]
    assert [answer.status for answer in answers] == [202, 202, 202, 200]

    async with connect(service_environment["AMQP_URL"], "tap") as connection:
        bodies = [body for p in range(PARTITIONS) for body in await waiting(connection, p)]
    for body in bodies:
        check_message("commands", orjson.loads(body))
    commands = [command for body in bodies for command in decode_commands(body)]
    wishes = [c.status if isinstance(c, UpdateOrder) else "" for c in commands if c.order_id == order_id]
    assert len(commands) == 5
    assert wishes == ["", "picked_up", "in_transit", "cancelled"]


async def test_the_replies_and_the_events_of_order_state_are_as_described(spine: Spine) -> None:
    order_id = f"o-{uuid4().hex}"
    narrow = Grant(orders=frozenset({order_id}))
    trace = f"00-{32 * '1'}-{16 * '2'}-01"
    create = create_command(order_id, metadata={"a": [1, {"b": None}]}, traceparent=trace)
    moved = update_command(order_id, occurred_at=create.received_at)
    commands: list[CreateOrder | UpdateOrder] = [
        create,
        create,
        moved,
        moved.model_copy(update={"fingerprint": "another"}),
        update_command(order_id, "in_transit", grant=narrow),
        update_command(order_id, "created"),
        update_command(order_id, "delivered", expected_version=1),
        update_command(order_id, "delivered", grant=Grant(merchants=frozenset({"m-2"}))),
        create_command(order_id),
    ]
    amqp_url = spine.environment["AMQP_URL"]
    async with listening(amqp_url, PARTITIONS) as announced, asking(amqp_url) as ask:
        outcomes = await ask(commands)
        await eventually(lambda: has(announced, 3))
    assert [outcome["version"] for outcome in outcomes[:5]] == [1, 1, 2, None, 3]
    assert [outcome["replayed"] for outcome in outcomes[:5]] == [False, True, False, False, False]
    assert [outcome["problem"] and outcome["problem"]["slug"] for outcome in outcomes] == [
        None,
        None,
        None,
        "idempotency-key-reused",
        None,
        "invalid-transition",
        "version-conflict",
        "order-not-found",
        "order-exists",
    ]
    assert [event["id"] for event in announced] == [f"{order_id}:{version}" for version in (1, 2, 3)]
    assert announced[0]["traceparent"] == trace


async def has(found: list[Any], number: int) -> bool:
    return len(found) >= number


@asynccontextmanager
async def asking(amqp_url: str) -> AsyncIterator[Any]:
    """Sends commands of one order in one message, and returns the outcomes."""
    async with connect(amqp_url, "asking") as connection:
        publisher = await connection.publisher(COMMANDS_EXCHANGE)
        reply_to, replies = await connection.private_consumer(None, limit=10)

        async def ask(commands: list[CreateOrder | UpdateOrder]) -> list[Outcome]:
            body = join_commands([encode_command(command) for command in commands])
            check_message("commands", orjson.loads(body))
            key = routing_key(partition_of(commands[0].order_id, PARTITIONS))
            await publisher.publish(
                key, body, content_type=COMMANDS_MEDIA_TYPE, message_id="question-1", reply_to=reply_to
            )
            [delivery] = await replies.next_batch(1)
            document = orjson.loads(delivery.body)
            check_message("replies", document)
            [reply] = document
            assert reply["message_id"] == "question-1"
            outcomes: list[Outcome] = reply["outcomes"]
            return outcomes

        yield ask


async def test_the_notifier_serves_the_document(
    service_environment: dict[str, str], start_service: StartService
) -> None:
    # It describes itself whatever else is away.
    notifier = await start_service("notifier", wait=False, AMQP_URL="amqp://127.0.0.1:1/")
    async with ClientSession() as session:

        async def answer() -> Any:
            try:
                async with session.get(f"{notifier.url}/asyncapi.json") as response:
                    assert response.headers["Content-Type"] == "application/json"
                    return await response.json()
            except OSError:  # it is still starting
                return None

        assert await eventually(answer) == asyncapi_document()
