"""Updates that order-state failed on: parked updates and dead letters, listed and released by an operator.

An order is parked when order-state fails on one of its updates. A message becomes a dead letter when it
cannot be decoded or was redelivered too often. Listing dead letters requeues them, perhaps in another order;
nothing else reads that queue. The content of updates is never shown.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from secrets import token_hex
from typing import Any, NamedTuple

from tracking.errors import CommandError
from tracking.upkeep.audit import audit_trail_of
from tracking.upkeep.record_reader import read_partitions, server_errors
from tracking_shared.contracts.commands import (
    COMMANDS_MEDIA_TYPE,
    AnyCommand,
    ReleaseOrder,
    UndecodableMessage,
    decode_commands,
    encode_command,
    join_commands,
)
from tracking_shared.contracts.documents import ParkedLineDocument
from tracking_shared.contracts.formats import COMMANDS, NewerFormat, message_headers
from tracking_shared.contracts.timestamps import format_time
from tracking_shared.messaging.connection import Connection, connect
from tracking_shared.messaging.consumer import Death, Delivery
from tracking_shared.messaging.topology import COMMANDS_EXCHANGE, DEAD_QUEUE, routing_key
from tracking_shared.storage.audit_trail import Act, Actor
from tracking_shared.storage.database import Database, DatabaseUnavailable, driver_errors, open_database
from tracking_shared.storage.homes import find_homes
from tracking_shared.telemetry.spans import traces_in

ANSWER_SECONDS = 30
"""The time limit for order-state to answer. It processes earlier commands first."""

MAX_LETTERS = 200
"""From the front of the queue; up to half a MiB each, all in memory at once."""

Command = AnyCommand | ReleaseOrder


class NotReleased(CommandError):
    """The order is still parked, or its state is unknown. The message says why."""


class NotMoved(CommandError):
    """The dead letter is still in the queue, or its state is unknown. The message says why."""


class _Destinations(NamedTuple):
    """The partitions of some orders, and the number of the routing keys."""

    partitions: Mapping[str, int]
    route: int


async def _destinations(database: Database, commands: Sequence[Command]) -> _Destinations:
    routing = await database.read_routing()
    if routing is None:
        raise DatabaseUnavailable("the settings were removed")
    order_ids = {command.order_id for command in commands}
    homes = await find_homes(database, routing.layout, order_ids)
    new = {one: routing.layout.new_home(one) for one in order_ids - homes.keys()}
    return _Destinations(homes | new, routing.route)


@dataclass(frozen=True, slots=True)
class ParkedOrder:
    """An order with parked updates, and the first of them, which failed."""

    order_id: str
    update_id: str
    since: datetime
    error: str | None
    """The failure of that update; None while the order is being released."""
    behind: int
    """The number of updates parked after it."""


async def parked_orders(database: Database) -> AsyncIterator[ParkedOrder]:
    """All parked orders.

    Raises:
        DatabaseUnavailable: the database does not answer.
        NoInstallation: it holds no installation.
    """
    for partition in await read_partitions(database):
        for parked_range in partition["parked"]:
            order = await _first_update(database, parked_range)
            if order is not None:
                yield order


async def parked_order(database: Database, order_id: str) -> ParkedOrder | None:
    """The order, if it is parked.

    Raises:
        DatabaseUnavailable, NoInstallation: as `parked_orders`.
    """
    ranges = [one for partition in await read_partitions(database) for one in partition["parked"]]
    for parked_range in ranges:
        if parked_range["order_id"] == order_id:
            return await _first_update(database, parked_range)
    return None


async def _first_update(database: Database, parked: ParkedLineDocument) -> ParkedOrder | None:
    fields = {"update_id": 1, "error": 1, "parked_at": 1}
    position = {"order_id": parked["order_id"], "place": parked["first"]}
    with driver_errors():
        first = await database.parked.find_one(position, fields)
    if first is None:  # released in the meantime
        return None
    behind = parked["last"] - parked["first"]
    return ParkedOrder(parked["order_id"], first["update_id"], first["parked_at"], first["error"], behind)


async def list_parked(mongodb_url: str, name: str) -> AsyncIterator[str]:
    """One line for each parked order.

    Raises:
        NotReleased: the database does not answer.
    """
    with server_errors(NotReleased):
        async with open_database(mongodb_url, name) as database:
            async for order in parked_orders(database):
                yield describe_order(order)


def describe_order(order: ParkedOrder) -> str:
    """A parked order in one line, without the content of its updates."""
    return (
        f"{order.order_id}  update {order.update_id}  since {format_time(order.since)}"
        f"  {order.error or 'being released'}  {order.behind:,} behind"
    )


async def release(
    amqp_url: str, mongodb_url: str, name: str, order_id: str, *, skip: bool, actor: Actor
) -> str:
    """Has order-state decide the parked updates of an order, after an entry in the audit trail.

    `skip`: the first update is rejected instead.

    Raises:
        NotReleased: nothing is parked, an update failed again, or there was no answer.
    """
    with server_errors(NotReleased):
        async with open_database(mongodb_url, name) as database:
            before = await parked_order(database, order_id)
            if before is None:
                raise NotReleased(f"nothing of order {order_id} is parked")
            await audit_trail_of(database).record(actor, _release_act(before, skip=skip))
            command = ReleaseOrder(order_id=order_id, skip=before.update_id if skip else None)
            await _request_release(amqp_url, command, await _destinations(database, [command]))
            after = await parked_order(database, order_id)
    if after is not None:
        raise NotReleased(f"still parked: {describe_order(after)}")
    return f"order {order_id} waits no more; {before.behind + 1:,} updates are decided"


async def _request_release(amqp_url: str, command: ReleaseOrder, destinations: _Destinations) -> None:
    async with connect(amqp_url, "tracking") as connection:
        answers, consumer = await connection.private_consumer(None, limit=1)
        await _publish(connection, [command], destinations, reply_to=answers)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await consumer.arrival()
        except TimeoutError:
            raise NotReleased(
                f"sent, but order-state has not done it within {ANSWER_SECONDS} s; look again later"
            ) from None


def _release_act(order: ParkedOrder, *, skip: bool) -> Act:
    details = {"update_id": order.update_id, "error": order.error, "behind": order.behind}
    return Act("parked.skip" if skip else "parked.replay", order.order_id, details)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in the queue `orders.dead`, without the content of its updates."""

    name: str
    """The digest of its body."""
    size: int
    """In bytes."""
    death: Death | None
    commands: list[Command]
    """Empty: the message cannot be decoded."""
    traces: list[str]


def letter_of(delivery: Delivery) -> DeadLetter:
    """Decodes a message of the queue."""
    try:
        commands = decode_commands(delivery.body, delivery.headers)
    except (UndecodableMessage, NewerFormat):
        commands = []
    name = hashlib.blake2b(delivery.body, digest_size=6).hexdigest()
    traces = traces_in(delivery.body)
    return DeadLetter(name, len(delivery.body), delivery.death, commands, traces)


def describe_letter(letter: DeadLetter) -> str:
    """A dead letter in one line, without the content of its updates."""
    death = letter.death
    cause = f"{death.reason} by {death.queue} {format_time(death.time)}" if death else "not by order-state"
    if not letter.commands:
        trace = f", trace {letter.traces[0]}" if letter.traces else ""
        return f"{letter.name}  {cause}  cannot be read, {letter.size:,} bytes{trace}"
    first = letter.commands[0]
    update = "release" if isinstance(first, ReleaseOrder) else f"update {first.update_id}"
    more = f" and {len(letter.commands) - 1:,} more" if len(letter.commands) > 1 else ""
    return f"{letter.name}  {cause}  order {first.order_id}  {update}{more}"


async def list_dead(amqp_url: str, limit: int) -> list[str]:
    """The number of dead letters, one line for each of the first `limit`, and the number of the others.

    Raises:
        NotMoved: the broker does not answer, or refuses.
    """
    with server_errors(NotMoved):
        async with connect(amqp_url, "tracking") as connection:
            depth, found = await connection.browse(DEAD_QUEUE, limit)
            letters = [letter_of(delivery) for delivery in found[:limit]]
    lines = [f"{depth:,} dead letters", *map(describe_letter, letters)]
    if depth > len(letters):
        more = f"{depth - len(letters):,} more that are not shown"
        lines.append(f"and {more}; --limit shows up to {MAX_LETTERS}")
    return lines


async def move(
    amqp_url: str, mongodb_url: str, database_name: str, name: str, *, again: bool, actor: Actor
) -> str:
    """Removes a dead letter, after an entry in the audit trail. `again`: first sends its commands again.

    Updates in the history of their orders are not sent. While their outcomes are stored they would be
    duplicates; but a dead letter may be older, and a status that may repeat would be applied twice.

    Raises:
        NotMoved: there is no such letter, it cannot be decoded, or there was no answer.
    """
    with server_errors(NotMoved):
        async with (
            open_database(mongodb_url, database_name) as database,
            connect(amqp_url, "tracking") as broker,
        ):
            await read_partitions(database)  # refuses a wrong database name
            delivery, letter = await _find(broker, name)
            if again and not letter.commands:
                raise NotMoved(f"dead letter {name} cannot be read; it would come back")
            await audit_trail_of(database).record(actor, _move_act(letter, again=again))
            unapplied = await _unapplied(database, letter.commands) if again else []
            await _publish(broker, unapplied, await _destinations(database, unapplied))
            await delivery.acknowledge()
    return f"dead letter {name}: {_sent(letter, len(unapplied)) if again else 'removed'}"


def _sent(letter: DeadLetter, sent: int) -> str:
    left_out = len(letter.commands) - sent
    return f"{sent:,} commands sent" + (
        f", {left_out:,} left out that were applied before" if left_out else ""
    )


async def _unapplied(database: Database, commands: list[Command]) -> list[Command]:
    """The commands whose updates are not in the history of their orders."""
    stages: list[dict[str, Any]] = [
        {"$match": {"order_id": {"$in": list({command.order_id for command in commands})}}},
        {"$match": {"update_id": {"$in": list({_update_id(command) for command in commands})}}},
        {"$project": {"order_id": 1, "update_id": 1}},
    ]
    with driver_errors():
        events = await (await database.order_events.aggregate(stages)).to_list()
    applied = {(event["order_id"], event["update_id"]) for event in events}
    return [command for command in commands if (command.order_id, _update_id(command)) not in applied]


def _update_id(command: Command) -> str | None:
    return None if isinstance(command, ReleaseOrder) else command.update_id


def _move_act(letter: DeadLetter, *, again: bool) -> Act:
    queue = letter.death.queue if letter.death else None
    details = {"queue": queue, "bytes": letter.size, "commands": len(letter.commands)}
    return Act("dead.send" if again else "dead.drop", letter.name, details)


async def _find(connection: Connection, name: str) -> tuple[Delivery, DeadLetter]:
    _, found = await connection.browse(DEAD_QUEUE, MAX_LETTERS)
    for delivery in found:
        letter = letter_of(delivery)
        if letter.name == name:
            return delivery, letter
    raise NotMoved(f"there is no dead letter {name} among the first {MAX_LETTERS}")


async def _publish(
    connection: Connection,
    commands: Sequence[Command],
    destinations: _Destinations,
    reply_to: str | None = None,
) -> None:
    """Publishes commands to the queues of their partitions."""
    publisher = await connection.publisher(COMMANDS_EXCHANGE)
    by_partition: dict[int, list[bytes]] = {}
    for command in commands:
        partition = destinations.partitions[command.order_id]
        by_partition.setdefault(partition, []).append(encode_command(command))
    for partition, encoded in by_partition.items():
        await publisher.publish(
            routing_key(partition, destinations.route),
            join_commands(encoded),
            content_type=COMMANDS_MEDIA_TYPE,
            message_id=token_hex(8),
            reply_to=reply_to,
            headers=message_headers(COMMANDS),
        )
