"""Somebody who may publish on the broker and means no good: nothing stops, and what is refused is counted."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import orjson
import pytest
from notifier_stack import metric, new_order, subscribed

from builders import update_command
from callers import Caller, eventually, token
from fixtures import PARTITIONS, Spine, StartService
from listeners import examine
from tracking.devstack.service_process import ServiceProcess
from tracking_shared.contracts.commands import (
    COMMANDS_MEDIA_TYPE,
    MAX_COMMANDS_MESSAGE_BYTES,
    encode_command,
    join_commands,
)
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.messaging.connection import Connection, connect
from tracking_shared.messaging.topology import (
    COMMANDS_EXCHANGE,
    DEAD_QUEUE,
    EVENTS_EXCHANGE,
    partition_queue_name,
    routing_key,
)

EVENTS_TYPE = "application/cloudevents-batch+json"


def in_partition(partition: int) -> str:
    names = (uuid4().hex for _ in range(1000))
    return next(name for name in names if partition_of(name, PARTITIONS) == partition)


def commands(*order_ids: str) -> bytes:
    return join_commands([encode_command(update_command(order_id)) for order_id in order_ids])


def bad_commands() -> dict[str, bytes]:
    """For partition 0; none of them is a batch of commands for it."""
    good = commands(in_partition(0))
    return {
        "no JSON": b"\x00\xff\xfe",
        "nothing": b"",
        "cut off": good[:-20],
        "packed": gzip.compress(good),
        "in another encoding": good.decode().encode("utf-16"),
        "too deep": b"[" * 100_000,
        "longer than a message may be": join_commands([b" " * (MAX_COMMANDS_MESSAGE_BYTES + 70_000)]),
        "of megabytes": b"[" + b'{"op":"update"},' * 200_000 + b"{}]",
        "events": b'[{"specversion":"1.0","id":"o-1:1","partition":0,"sequence":"1","data":{}}]',
        "an operator of the database": good.replace(b'"picked_up"', b'{"$ne":null}'),
        "a subject with more power": good.replace(b'"merchants":', b'"scopes":["orders:admin"],"merchants":'),
        "an order id that is none": good.replace(b'"order_id":"', b'"order_id":"../'),
        "another partition's": commands(in_partition(1)),
        "another partition's, among good ones": commands(in_partition(0), in_partition(2), in_partition(0)),
        "a release of nothing": b'[{"op":"release"}]',
    }


def bad_events(seq: int) -> dict[str, bytes]:
    """None of them is an event that order-state has committed."""
    data = {"order_id": "o", "merchant_id": "m", "version": 1, "status": "created", "previous_status": None}
    data |= {"active": True, "source": {"type": "system", "id": "x"}}  # type: ignore[dict-item]
    event = {"partition": 0, "sequence": f"{seq:020}", "data": data}
    return {
        "no JSON": b"{",
        "an object": b"{}",
        "numbers": b"[1,2,3]",
        "of no partition": orjson.dumps([event | {"partition": PARTITIONS}]),
        "of a negative partition": orjson.dumps([event | {"partition": -1}]),
        "without its source": orjson.dumps([event | {"data": {**data, "source": None}}]),
        "in a status that is none": orjson.dumps([event | {"data": {**data, "previous_status": "eaten"}}]),
        "of the future": orjson.dumps([event]),
        "of a far future": orjson.dumps([event | {"sequence": "9" * 4000}]),
        "of megabytes": b"[" + b"{}," * 1_000_000 + b"{}]",
    }


@dataclass
class Hostile:
    """A connection with publishers to everything."""

    connection: Connection

    async def send(self, exchange: str, key: str, body: bytes, content_type: str) -> None:
        publisher = await self.connection.publisher(exchange, mandatory=False)
        await publisher.publish(key, body, content_type=content_type)


@pytest.fixture
async def hostile(spine: Spine) -> AsyncIterator[Hostile]:
    async with connect(spine.environment["AMQP_URL"], "hostile") as connection:
        yield Hostile(connection)


async def others_flow(spine: Spine) -> None:
    """Fails unless an order goes its whole way while its caller waits."""
    answers = await spine.caller.live(uuid4().hex)
    assert [answer.status for answer in answers] == [201, 200, 409, 200, 200, 200, 409]


async def counted(service: ServiceProcess, name: str, number: int) -> None:
    async def reached() -> bool:
        return await metric(service, name) >= number

    await eventually(reached)
    assert await metric(service, name) == number


async def test_whatever_comes_instead_of_commands_is_put_aside_and_counted(
    spine: Spine, hostile: Hostile
) -> None:
    bad = bad_commands()
    for number, body in enumerate(bad.values()):
        content_type = "text/html" if number % 2 else COMMANDS_MEDIA_TYPE
        await hostile.send(COMMANDS_EXCHANGE, routing_key(0), body, content_type)
    await others_flow(spine)
    await counted(spine.order_state, "tracking_dead_lettered_total", len(bad))

    async def all_dead() -> bool:
        return await hostile.connection.depth(DEAD_QUEUE) == len(bad)

    await eventually(all_dead)

    # What a body is decides, and not what it is called.
    order_id = new_order()
    key = routing_key(partition_of(order_id, PARTITIONS))
    await spine.caller.live(order_id, steps=())
    await hostile.send(COMMANDS_EXCHANGE, key, commands(order_id), "image/png")

    async def moved() -> bool:
        path = f"/v1/orders/{order_id}/updates"
        answer = await spine.caller.post(path, {"status": "created"}, Idempotency_Key=uuid4().hex)
        return bool(answer.body["current_status"] == "picked_up")

    await eventually(moved)
    await examine(spine.environment, spine.caller.acknowledged)


async def test_events_that_nobody_committed_reach_no_client(
    spine: Spine, hostile: Hostile, start_service: StartService
) -> None:
    notifier = await start_service("notifier", PARTITIONS=str(PARTITIONS))
    order_id = in_partition(0)
    async with subscribed(notifier.stream_url, token(), filter={"order_id": [order_id]}) as client:
        bad = bad_events(seq=1000)
        for body in bad.values():
            await hostile.send(EVENTS_EXCHANGE, "", body, EVENTS_TYPE)
        await counted(notifier, "tracking_feed_undecodable_total", len(bad))
        await spine.caller.live(order_id, ["picked_up"])
        assert [event["id"] for event in await client.events(2)] == [f"{order_id}:1", f"{order_id}:2"]


async def test_replies_that_order_state_did_not_send_answer_nobody(
    spine: Spine, hostile: Hostile, start_service: StartService
) -> None:
    await spine.order_state.stop()
    order_id = new_order()
    queue = partition_queue_name(partition_of(order_id, PARTITIONS))
    thief = await hostile.connection.consumer(queue, prefetch=1)
    body = {"order_id": order_id, "merchant_id": "m", "customer": {"name": "A", "contact_ref": "c"}}
    async with Caller(spine.caller.urls) as caller:
        asked = asyncio.create_task(caller.post("/v1/orders", body, Prefer="wait=2", Idempotency_Key="one"))
        await thief.arrival()
        (stolen,) = thief.take(1)
        assert stolen.reply_to
        to_its_sender = {"message_id": stolen.message_id}
        bad: list[object] = [
            {},
            [1],
            [{"message_id": 7, "outcomes": []}],
            [to_its_sender],
            [to_its_sender | {"outcomes": "applied"}],
            [to_its_sender | {"outcomes": [{"outcome": "applied"}]}],
            [to_its_sender | {"outcomes": []}],
        ]
        for reply in (b"\xff", *map(orjson.dumps, bad)):
            await hostile.send("", stolen.reply_to, reply, "application/json")
        answer = await asked
        assert (answer.status, answer.body["outcome"]) == (202, "accepted")
    await counted(spine.ingest, "tracking_ingest_undecodable_total", len(bad) + 1)

    await thief.close()
    await start_service("order_state")
    again = await spine.caller.post("/v1/orders", body, Idempotency_Key="one")
    assert (again.status, again.headers["Idempotent-Replayed"]) == (201, "true")
    await others_flow(spine)
