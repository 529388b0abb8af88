"""Dead letters: messages that order-state could not read, or that came back too often. Looks at them, sends
what they hold again, or removes them. What the updates say is never shown.

Looking takes messages in hand and gives them back, perhaps in another order. Nothing else reads that queue.
"""

import hashlib
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from shared.audit_trail import Act, Actor
from shared.broker import BrokerUnavailable, Connection, Death, Delivery, connect
from shared.commands import (
    COMMANDS_MEDIA_TYPE,
    CreateOrder,
    ReleaseOrder,
    UndecodableMessage,
    UpdateOrder,
    decode_commands,
    encode_command,
    join_commands,
)
from shared.database import Database, DatabaseUnavailable, driver_errors, open_database
from shared.partitioning import partition_of
from shared.timestamps import format_time
from shared.topology import COMMANDS_EXCHANGE, DEAD_QUEUE, routing_key
from shared.tracing import traces_in
from tracking.audit import trail_of
from tracking.examination import read_partitions

MAX_LETTERS = 200
"""From the front of the queue: half a MiB each at most, and in memory together."""

Commands = list[CreateOrder | UpdateOrder | ReleaseOrder]


class NotMoved(Exception):
    """The dead letter is where it was, or nobody knows. The message says why."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message of the queue, and what can be told of it."""

    name: str
    """A digest of its body."""
    size: int
    """In bytes."""
    death: Death | None
    commands: Commands
    """Empty: it cannot be read."""
    traces: list[str]


def letter_of(delivery: Delivery) -> DeadLetter:
    """What a message is."""
    try:
        commands = decode_commands(delivery.body)
    except UndecodableMessage:
        commands = []
    name = hashlib.blake2b(delivery.body, digest_size=6).hexdigest()
    traces = traces_in(delivery.body)
    return DeadLetter(name, len(delivery.body), delivery.death, commands, traces)


def describe(letter: DeadLetter) -> str:
    """One line, without anything of what the updates say."""
    death = letter.death
    how = f"{death.reason} by {death.queue} {format_time(death.time)}" if death else "not by order-state"
    if not letter.commands:
        trace = f", trace {letter.traces[0]}" if letter.traces else ""
        return f"{letter.name}  {how}  cannot be read, {letter.size:,} bytes{trace}"
    first = letter.commands[0]
    update = "release" if isinstance(first, ReleaseOrder) else f"update {first.update_id}"
    more = f" and {len(letter.commands) - 1:,} more" if len(letter.commands) > 1 else ""
    return f"{letter.name}  {how}  order {first.order_id}  {update}{more}"


async def list_dead(amqp_url: str, limit: int) -> list[str]:
    """How many there are, a line for each of the first `limit`, and how many are not shown.

    Raises:
        NotMoved: the broker does not answer, or refuses.
    """
    try:
        async with connect(amqp_url, "tracking") as connection:
            depth, found = await connection.browse(DEAD_QUEUE, limit)
            letters = [letter_of(delivery) for delivery in found[:limit]]
    except BrokerUnavailable as error:
        raise NotMoved(f"{error.summary}: {error}") from None
    lines = [f"{depth:,} dead letters", *map(describe, letters)]
    if depth > len(letters):
        more = f"{depth - len(letters):,} more that are not shown"
        lines.append(f"and {more}; --limit shows up to {MAX_LETTERS}")
    return lines


async def move(
    amqp_url: str, mongodb_url: str, database_name: str, name: str, *, again: bool, actor: Actor
) -> str:
    """Sends what a dead letter holds to its partitions, or not, and removes it. The audit trail has it first.

    Updates that are in the history of their orders are left out. While their outcomes are kept they would
    have no effect anyway; but a letter may be older than that, and a step that may repeat, a scan, would be
    applied twice.

    Raises:
        NotMoved: there is none of that name, it cannot be read, or there was no answer.
    """
    try:
        async with (
            open_database(mongodb_url, database_name) as database,
            connect(amqp_url, "tracking") as broker,
        ):
            partitions = len(await read_partitions(database))
            delivery, letter = await _find(broker, name)
            if again and not letter.commands:
                raise NotMoved(f"dead letter {name} cannot be read; it would come back")
            await trail_of(database).record(actor, _act(letter, again=again))
            unapplied = await _unapplied(database, letter.commands) if again else []
            await _send(broker, unapplied, partitions)
            await delivery.acknowledge()
    except DatabaseUnavailable as error:
        raise NotMoved(f"the database does not answer: {error}") from None
    except BrokerUnavailable as error:
        raise NotMoved(f"{error.summary}: {error}") from None
    return f"dead letter {name}: {_sent(letter, len(unapplied)) if again else 'removed'}"


def _sent(letter: DeadLetter, sent: int) -> str:
    left_out = len(letter.commands) - sent
    return f"{sent:,} commands sent" + (
        f", {left_out:,} left out that were applied before" if left_out else ""
    )


async def _unapplied(database: Database, commands: Commands) -> Commands:
    """Those whose updates are not in the history of their orders."""
    stages: list[dict[str, Any]] = [
        {"$match": {"order_id": {"$in": list({command.order_id for command in commands})}}},
        {"$match": {"update_id": {"$in": list({_update_id(command) for command in commands})}}},
        {"$project": {"order_id": 1, "update_id": 1}},
    ]
    with driver_errors():
        events = await (await database.order_events.aggregate(stages)).to_list()
    applied = {(event["order_id"], event["update_id"]) for event in events}
    return [command for command in commands if (command.order_id, _update_id(command)) not in applied]


def _update_id(command: CreateOrder | UpdateOrder | ReleaseOrder) -> str | None:
    return None if isinstance(command, ReleaseOrder) else command.update_id


def _act(letter: DeadLetter, *, again: bool) -> Act:
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


async def _send(connection: Connection, commands: Commands, partitions: int) -> None:
    publisher = await connection.publisher(COMMANDS_EXCHANGE)
    by_partition: dict[int, list[bytes]] = {}
    for command in commands:
        partition = partition_of(command.order_id, partitions)
        by_partition.setdefault(partition, []).append(encode_command(command))
    for partition, encoded in by_partition.items():
        await publisher.publish(
            routing_key(partition),
            join_commands(encoded),
            content_type=COMMANDS_MEDIA_TYPE,
            message_id=token_hex(8),
        )
