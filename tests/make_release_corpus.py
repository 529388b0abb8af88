"""Makes the corpus of a release by running it: ``make corpus RELEASE=1.2.0`` in its own source tree.

Starts a broker, a database and the services, has callers and operators do everything that makes them write,
and keeps the documents of every collection and the messages of every kind. Names and contacts are invented;
the keys in `settings` are replaced by zeros.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import aio_pika
from aiohttp import ClientSession
from bson.binary import Binary

from callers import Answer, Caller, eventually, token
from release_corpus import Corpus, Message, write_corpus
from servers import new_environment, shared_broker, shared_database
from tracking.devstack.service_process import PORT_VARIABLES, ServiceProcess
from tracking.upkeep.failed_updates import NotReleased, release
from tracking_shared.auth.revocations import revoke_subject, revoke_token
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.contracts.timestamps import format_time, now
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.messaging.topology import (
    COMMANDS_EXCHANGE,
    DEAD_QUEUE,
    EVENTS_EXCHANGE,
    partition_queue_name,
    routing_key,
)
from tracking_shared.storage.audit_trail import Actor
from tracking_shared.storage.database import INDEXES, Database, open_database

PARTITIONS = 2
DUE_SECONDS = 2
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PERSON = {"name": "Wilhelmina Vaughan", "contact_ref": "crm-77"}
ERASED_PERSON = {"name": "Barnabas Quill", "contact_ref": "+49 30 5550123"}
LATER_ERASED_PERSON = {"name": "Petronella Frost", "contact_ref": "frost@example.org"}


def workflow_file(folder: Path) -> Path:
    """The default workflow, with early updates held for a day."""
    table = {status: list(followers) for status, followers in DEFAULT_WORKFLOW.transitions.items()}
    path = folder / "workflow.json"
    path.write_text(json.dumps({"initial": "created", "transitions": table, "hold_early_seconds": 86_400}))
    return path


@dataclass(slots=True)
class Callers:
    """Those who report to ingest, each with an update id of its own choosing."""

    caller: Caller
    numbers: dict[str, int] = field(default_factory=dict)

    async def report(
        self, path: str, body: dict[str, Any], update_id: str = "", *, bearer: str | None = None
    ) -> Answer:
        """One request, which must not fail."""
        answer = await self.caller.post(
            path,
            body,
            bearer=bearer or token(sub="driver-7", source_type="driver", scope="orders:write orders:correct"),
            Idempotency_Key=update_id or uuid4().hex,
            Prefer="wait=2",
            traceparent=TRACEPARENT,
        )
        assert answer.status < 500, answer
        return answer

    async def create(self, order_id: str, **fields: Any) -> Answer:
        """A new order."""
        body = {"order_id": order_id, "merchant_id": "m-1", "customer": PERSON} | fields
        return await self.report("/v1/orders", body)

    async def step(self, order_id: str, status: str, update_id: str = "", **fields: Any) -> Answer:
        """An update."""
        return await self.report(f"/v1/orders/{order_id}/updates", {"status": status} | fields, update_id)

    async def checkpoint(self, order_id: str, kind: str, **fields: Any) -> Answer:
        """A checkpoint."""
        return await self.report(f"/v1/orders/{order_id}/checkpoints", {"kind": kind} | fields)

    async def correct(self, order_id: str, status: str, reason: str) -> Answer:
        """A correction."""
        return await self.report(f"/v1/orders/{order_id}/corrections", {"status": status, "reason": reason})


async def drive_orders(callers: Callers) -> None:
    """Orders that are created, delivered, corrected, refused and held."""
    due = format_time(now() + timedelta(seconds=DUE_SECONDS))
    await callers.create("overdue-1", due_at=due, metadata={"lane": "north", "weight": 2.5, "tags": ["a"]})
    await callers.create("plain-1", reference="WH/OUT/00012", occurred_at="2026-01-31T08:15:00+02:00")
    for status in ("picked_up", "in_transit", "in_transit", "delivered"):
        await callers.step("plain-1", status, metadata={"seen": status})
    await callers.step("plain-1", "cancelled")  # refused
    await callers.checkpoint("plain-1", "proof_added", message="left with a neighbour")
    await callers.correct("plain-1", "in_transit", "wrong parcel scanned")
    await callers.checkpoint(
        "plain-1", "eta_changed", eta="2031-01-01T10:00:00Z", due_at="2031-01-02T10:00:00Z"
    )
    await callers.checkpoint("plain-1", "note", expected_version=1)  # refused
    await callers.step("nowhere-1", "picked_up", expected_version=3)  # refused, without an order
    await callers.step("early-1", "picked_up", occurred_at="2026-02-01T08:00:00Z")  # held, without an order
    await callers.checkpoint("early-1", "note", message="at the gate")  # the same
    await callers.create("early-2")
    await callers.step("early-2", "delivered")  # held, of an order that is there
    await callers.create("early-3")
    await callers.step("early-3", "in_transit")  # held until the next one, then applied
    await callers.step("early-3", "picked_up")
    await callers.create("closed-1")
    await callers.step("closed-1", "cancelled")
    await callers.checkpoint("closed-1", "note", message="the customer called")  # it stays closed
    lines = [
        {"op": "create", "order_id": "batch-1", "merchant_id": "m-2", "customer": PERSON},
        {"op": "update", "order_id": "batch-1", "status": "picked_up"},
        {"op": "checkpoint", "order_id": "batch-1", "kind": "note", "message": "two parcels"},
        {"op": "correct", "order_id": "batch-1", "status": "created", "reason": "not picked up yet"},
    ]
    answer = await callers.caller.post(
        "/v1/batch", json.dumps(lines), bearer=token(scope="orders:write orders:correct")
    )
    assert [one["outcome"] for one in answer.body["results"]] == ["applied"] * 4, answer


async def park(callers: Callers, environment: Mapping[str, str]) -> None:
    """An order that waits for an operator, with a command behind the one that fails, and is released in
    vain."""
    await callers.create("parked-1")
    await callers.step("parked-1", "picked_up", "poison-1")
    await callers.step("parked-1", "in_transit")
    addresses = (environment[name] for name in ("AMQP_URL", "MONGODB_URL", "MONGODB_DATABASE"))
    with suppress(NotReleased):
        await release(*addresses, "parked-1", skip=False, actor=Actor("ops", "command-line"))


async def erase(query_url: str, contact_ref: str) -> None:
    """Asks query to erase a person."""
    headers = {"Authorization": f"Bearer {token(scope='orders:admin orders:read')}"}
    async with (
        ClientSession(headers=headers) as session,
        session.delete(f"{query_url}/v1/customers/{contact_ref.replace(' ', '%20')}") as response,
    ):
        assert response.status in (200, 202), await response.text()


async def revoke(database: Database) -> None:
    """Ends a token, and all of a subject."""
    await revoke_token(database, "token-1")
    await revoke_subject(database, "driver-9", issued_before=now())


class Tap:
    """Queues of its own on the exchanges, and what has come to them."""

    def __init__(self, channel: Any, commands: Any, events: Any) -> None:
        self.channel = channel
        self._queues = {"commands": commands, "events": events}

    async def messages(self) -> dict[str, list[Message]]:
        """Everything so far, by kind."""
        found = {kind: await _drain(queue) for kind, queue in self._queues.items()}
        dead = await self.channel.get_queue(DEAD_QUEUE, ensure=False)
        return found | {"dead_letters": await _drain(dead)}

    async def replies(self, commands: list[Message]) -> list[Message]:
        """The answers to each of these messages: to a repeat, and to the same for orders that are new."""
        queue = await self.channel.declare_queue(exclusive=True)
        exchange = await self.channel.get_exchange(COMMANDS_EXCHANGE, ensure=False)
        sent = 0
        for message in commands:
            for body in (message.body, _for_new_orders(message.body)):
                partition = partition_of(json.loads(body)[0]["order_id"], PARTITIONS)
                again = aio_pika.Message(
                    body,
                    content_type=message.content_type,
                    headers=dict(message.headers),
                    reply_to=queue.name,
                    message_id=f"question-{sent}",
                )
                await exchange.publish(again, routing_key(partition))
                sent += 1
        answers: list[Message] = []

        async def all_answered() -> bool:
            answers.extend(await _drain(queue))
            return sum(len(json.loads(one.body)) for one in answers) >= sent

        await eventually(all_answered)
        return answers


def _for_new_orders(body: bytes) -> bytes:
    """The same commands for orders of other names, in the same partitions."""
    commands = json.loads(body)
    for command in commands:
        partition = partition_of(command["order_id"], PARTITIONS)
        names = (f"{command['order_id']}-again-{number}" for number in range(100))
        command["order_id"] = next(name for name in names if partition_of(name, PARTITIONS) == partition)
    return json.dumps(commands).encode()


async def _drain(queue: Any) -> list[Message]:
    found: list[Message] = []
    while (message := await queue.get(no_ack=True, fail=False)) is not None:
        headers = {key: value for key, value in message.headers.items() if key != "x-death"}
        found.append(Message(message.body, headers, message.content_type))
    return found


@asynccontextmanager
async def tapping(amqp_url: str) -> AsyncIterator[Tap]:
    """Binds queues of its own to the exchanges, which are declared already."""
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        commands = await channel.declare_queue(exclusive=True)
        for partition in range(PARTITIONS):
            await commands.bind(COMMANDS_EXCHANGE, routing_key(partition))
        events = await channel.declare_queue(exclusive=True)
        await events.bind(EVENTS_EXCHANGE)
        yield Tap(channel, commands, events)


async def publish_garbage(tap: Tap) -> None:
    """A message that is none of ours: it becomes a dead letter."""
    body = aio_pika.Message(b'{"op": "explode"}')
    await tap.channel.default_exchange.publish(body, partition_queue_name(0))


async def read_documents(database: Database) -> dict[str, list[dict[str, Any]]]:
    """Everything that is stored, without secrets."""
    names = sorted({*await database.raw.list_collection_names(), *INDEXES})
    found = {name: await database.raw[name].find({}).sort("_id").to_list() for name in names}
    for document in found["settings"]:
        if "key" in document:
            document["key"] = Binary(bytes(len(document["key"])))
    return found


async def is_settled(database: Database) -> bool:
    """True once what comes later has come: overdue, erased, found by the search."""
    is_overdue = await database.order_events.find_one({"type": "order.overdue"}) is not None
    is_erased = await database.erasures.find_one({"done_at": {"$exists": True}}) is not None
    return is_overdue and is_erased and await database.order_search.count_documents({}) > 0


async def make(release_name: str, folder: Path) -> Corpus:
    """Runs everything once and returns what it has written."""
    PORT_VARIABLES["faulty_order_state"] = "ORDER_STATE_PORT"
    here = str(Path(__file__).parent)
    async with AsyncExitStack() as running:
        broker = await running.enter_async_context(shared_broker(folder / "broker"))
        mongodb_url = await running.enter_async_context(shared_database(folder / "database"))
        environment = await new_environment(broker, mongodb_url) | {
            "PARTITIONS": str(PARTITIONS),
            "WORKFLOW_FILE": str(workflow_file(folder)),
            "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), here])),
            "POISON": "deciding",
        }

        async def start(service: str) -> ServiceProcess:
            process = ServiceProcess(service, environment=environment, logs=folder / "logs")
            running.push_async_callback(process.stop)
            await process.start()
            return process

        order_state = await start("faulty_order_state")
        ingest, query = await start("ingest"), await start("query")
        tap = await running.enter_async_context(tapping(environment["AMQP_URL"]))
        callers = Callers(await running.enter_async_context(Caller([ingest.url])))
        database = await running.enter_async_context(
            open_database(mongodb_url, environment["MONGODB_DATABASE"])
        )
        await drive_orders(callers)
        await callers.create("erased-1", customer=ERASED_PERSON)
        await callers.create("erased-2", customer=LATER_ERASED_PERSON, merchant_id="m-3")
        await park(callers, environment)
        await erase(query.url, ERASED_PERSON["contact_ref"])
        await revoke(database)
        await publish_garbage(tap)
        await eventually(lambda: is_settled(database))
        await callers.step("overdue-1", "picked_up")
        messages = await tap.messages()
        messages["replies"] = await tap.replies(messages["commands"])
        await order_state.stop()
        await erase(query.url, LATER_ERASED_PERSON["contact_ref"])  # accepted, and not carried out
        return Corpus(release_name, await read_documents(database), messages)


async def main(release_name: str) -> None:
    """Makes the corpus and prints where it is."""
    with TemporaryDirectory() as folder:
        corpus = await make(release_name, Path(folder))
    print(write_corpus(corpus))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
