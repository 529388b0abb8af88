"""Orders that wait for an operator, because our own code failed on one of their updates: looks at them, and
has order-state try again or give an update up. What the updates say is never shown.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from secrets import token_hex

from shared.audit_trail import Act, Actor
from shared.broker import BrokerUnavailable, connect
from shared.commands import COMMANDS_MEDIA_TYPE, ReleaseOrder, encode_command, join_commands
from shared.database import Database, DatabaseUnavailable, driver_errors, open_database
from shared.documents import ParkedLineDocument
from shared.partitioning import partition_of
from shared.timestamps import format_time
from shared.topology import COMMANDS_EXCHANGE, routing_key
from tracking.audit import trail_of
from tracking.examination import read_partitions

ANSWER_SECONDS = 30
"""How long order-state is waited for: it first does what was sent before."""


class NotReleased(Exception):
    """The order waits still, or nobody knows whether it does. The message says why."""


@dataclass(frozen=True, slots=True)
class ParkedOrder:
    """An order that waits, and the update that it waits for."""

    order_id: str
    update_id: str
    since: datetime
    error: str | None
    """How that update failed. None for a moment, while the order is being released."""
    behind: int
    """Updates that wait behind it."""


async def parked_orders(database: Database) -> AsyncIterator[ParkedOrder]:
    """All orders that wait.

    Raises:
        DatabaseUnavailable: the database does not answer.
        NothingToCheck: it was never set up.
    """
    for partition in await read_partitions(database):
        for line in partition["parked"]:
            order = await _first_of(database, line)
            if order is not None:
                yield order


async def parked_order(database: Database, order_id: str) -> ParkedOrder | None:
    """The order, if it waits.

    Raises:
        DatabaseUnavailable, NothingToCheck: as `parked_orders`.
    """
    partitions = {partition["_id"]: partition for partition in await read_partitions(database)}
    for line in partitions[partition_of(order_id, len(partitions))]["parked"]:
        if line["order_id"] == order_id:
            return await _first_of(database, line)
    return None


async def _first_of(database: Database, line: ParkedLineDocument) -> ParkedOrder | None:
    shown = {"update_id": 1, "error": 1, "parked_at": 1}
    where = {"order_id": line["order_id"], "place": line["first"]}
    with driver_errors():
        first = await database.parked.find_one(where, shown)
    if first is None:  # released since the line was read
        return None
    behind = line["last"] - line["first"]
    return ParkedOrder(line["order_id"], first["update_id"], first["parked_at"], first["error"], behind)


async def list_parked(mongodb_url: str, name: str) -> AsyncIterator[str]:
    """A line for each order that waits.

    Raises:
        NotReleased: the database does not answer.
    """
    try:
        async with open_database(mongodb_url, name) as database:
            async for order in parked_orders(database):
                yield describe(order)
    except DatabaseUnavailable as error:
        raise NotReleased(f"the database does not answer: {error}") from None


def describe(order: ParkedOrder) -> str:
    """One line, without anything of what the update says."""
    return (
        f"{order.order_id}  update {order.update_id}  since {format_time(order.since)}"
        f"  {order.error or 'being released'}  {order.behind:,} behind"
    )


async def release(
    amqp_url: str, mongodb_url: str, name: str, order_id: str, *, skip: bool, actor: Actor
) -> str:
    """Has order-state decide what waits of the order, and says what came of it. With `skip`, the first
    update is given up: its caller finds it rejected. The audit trail has it before order-state is asked.

    Raises:
        NotReleased: nothing waits, an update failed again, or there was no answer.
    """
    try:
        async with open_database(mongodb_url, name) as database:
            before = await parked_order(database, order_id)
            if before is None:
                raise NotReleased(f"nothing of order {order_id} is parked")
            partitions = await read_partitions(database)
            await trail_of(database).record(actor, _act(before, skip=skip))
            wish = ReleaseOrder(order_id=order_id, skip=before.update_id if skip else None)
            await _send(amqp_url, wish, len(partitions))
            after = await parked_order(database, order_id)
    except DatabaseUnavailable as error:
        raise NotReleased(f"the database does not answer: {error}") from None
    except BrokerUnavailable as error:
        raise NotReleased(f"{error.summary}: {error}") from None
    if after is not None:
        raise NotReleased(f"still parked: {describe(after)}")
    return f"order {order_id} waits no more; {before.behind + 1:,} updates are decided"


def _act(order: ParkedOrder, *, skip: bool) -> Act:
    details = {"update_id": order.update_id, "error": order.error, "behind": order.behind}
    return Act("parked.skip" if skip else "parked.replay", order.order_id, details)


async def _send(amqp_url: str, wish: ReleaseOrder, partitions: int) -> None:
    async with connect(amqp_url, "tracking") as connection:
        answers, consumer = await connection.private_consumer(None, limit=1)
        publisher = await connection.publisher(COMMANDS_EXCHANGE)
        await publisher.publish(
            routing_key(partition_of(wish.order_id, partitions)),
            join_commands([encode_command(wish)]),
            content_type=COMMANDS_MEDIA_TYPE,
            message_id=token_hex(8),
            reply_to=answers,
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await consumer.arrival()
        except TimeoutError:
            raise NotReleased(
                f"sent, but order-state has not done it within {ANSWER_SECONDS} s; look again later"
            ) from None
