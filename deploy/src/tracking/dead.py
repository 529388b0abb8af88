"""Dead letters: messages that order-state could not read, or that came back too often. Looks at them, sends
what they hold again, or removes them. What the updates say is never shown.

Looking takes messages in hand and gives them back, perhaps in another order. Nothing else reads that queue.
"""

import hashlib
from dataclasses import dataclass
from secrets import token_hex

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
from shared.database import DatabaseUnavailable, open_database
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
    """How many there are, and a line for each of the first `limit`.

    Raises:
        NotMoved: the broker does not answer, or refuses.
    """
    try:
        async with connect(amqp_url, "tracking") as connection:
            depth, found = await connection.browse(DEAD_QUEUE, limit)
            letters = [letter_of(delivery) for delivery in found[:limit]]
    except BrokerUnavailable as error:
        raise NotMoved(f"{error.summary}: {error}") from None
    return [f"{depth:,} dead letters", *map(describe, letters)]


async def move(
    amqp_url: str, mongodb_url: str, database_name: str, name: str, *, again: bool, actor: Actor
) -> str:
    """Sends what a dead letter holds to its partitions, or not, and removes it. The audit trail has it first.

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
            if again:
                await _send(broker, letter.commands, partitions)
            await delivery.acknowledge()
    except DatabaseUnavailable as error:
        raise NotMoved(f"the database does not answer: {error}") from None
    except BrokerUnavailable as error:
        raise NotMoved(f"{error.summary}: {error}") from None
    return f"dead letter {name}: {f'{len(letter.commands):,} commands sent' if again else 'removed'}"


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
