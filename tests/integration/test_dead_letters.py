"""Messages that no order-state could take: an operator looks at them, sends them again or removes them."""

import getpass
from collections.abc import Callable
from uuid import uuid4

import pytest

from builders import create_command, update_command
from callers import eventually
from command_line import run
from fixtures import PARTITIONS, Spine
from listeners import examine
from stored_outcomes import stored_outcomes
from tracking.upkeep.failed_updates import NotMoved, list_dead, move
from tracking_shared.contracts.commands import COMMANDS_MEDIA_TYPE, encode_command, join_commands
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.messaging.connection import Connection, connect
from tracking_shared.messaging.topology import (
    COMMANDS_EXCHANGE,
    DEAD_EXCHANGE,
    DEAD_QUEUE,
    DELIVERY_LIMIT,
    partition_queue_name,
    routing_key,
)
from tracking_shared.storage.audit_trail import Actor
from tracking_shared.storage.database import open_database
from tracking_shared.telemetry.spans import traceparent_of

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def order_id_in(is_right: Callable[[int], bool]) -> str:
    """A new order of a partition for which this holds."""
    names = (uuid4().hex for _ in range(1000))
    return next(name for name in names if is_right(partition_of(name, PARTITIONS)))


async def publish(
    url: str, body: bytes, key: str = routing_key(0), exchange: str = COMMANDS_EXCHANGE
) -> None:
    async with connect(url, "hostile") as connection:
        publisher = await connection.publisher(exchange)
        await publisher.publish(key, body, content_type=COMMANDS_MEDIA_TYPE)


async def act(spine: Spine, name: str, *, again: bool) -> str:
    """What the commands do."""
    urls = spine.environment["AMQP_URL"], spine.environment["MONGODB_URL"]
    actor = Actor("ops", "command-line")
    return await move(*urls, spine.environment["MONGODB_DATABASE"], name, again=again, actor=actor)


async def listed(spine: Spine, number: int, limit: int = 20) -> list[str]:
    """The list, once there are so many dead letters."""

    async def lines() -> list[str] | None:
        found = await list_dead(spine.environment["AMQP_URL"], limit)
        return found if found[0] == f"{number:,} dead letters" else None

    found: list[str] = await eventually(lines)
    return found[1:]


async def test_what_can_be_read_is_sent_to_the_partitions_that_it_is_for(spine: Spine) -> None:
    url = spine.environment["AMQP_URL"]
    orders = [order_id_in(lambda p: p == 1), order_id_in(lambda p: p == 2)]
    creates = [create_command(order_id, update_id="create") for order_id in orders]
    steps = [update_command(order_id, update_id="step") for order_id in orders]
    await publish(url, join_commands([encode_command(one) for one in (*creates, *steps)]))

    [line] = await listed(spine, 1)
    assert f" rejected by {partition_queue_name(0)} 20" in line
    assert line.endswith(f"  order {orders[0]}  update create and 3 more")
    assert "Ada" not in line
    assert await listed(spine, 1) == [line], "to look changes nothing"

    name = line.split()[0]
    assert await act(spine, name, again=True) == f"dead letter {name}: 4 commands sent"
    await examine(spine.environment, [])
    async with open_database(
        spine.environment["MONGODB_URL"], spine.environment["MONGODB_DATABASE"]
    ) as database:
        assert {order["_id"]: order["version"] async for order in database.orders.find({})} == dict.fromkeys(
            orders, 2
        )
        [entry] = await database.audit.find({"action": "dead.send"}).to_list()
        assert (entry["actor"]["sub"], entry["subject"]) == ("ops", name)
        assert entry["details"]["commands"] == 4
    assert await listed(spine, 0) == []
    with pytest.raises(NotMoved, match="there is no dead letter"):
        await act(spine, name, again=True)


async def test_what_cannot_be_read_is_not_sent_and_can_be_removed(spine: Spine) -> None:
    url = spine.environment["AMQP_URL"]
    body = encode_command(update_command(traceparent=traceparent_of(TRACE_ID)))  # no list
    await publish(url, body)
    await listed(spine, 1)
    await publish(url, b"\x00nonsense")
    await listed(spine, 2)
    await publish(url, b"by hand", "", DEAD_EXCHANGE)

    lines = sorted(await listed(spine, 3), key=len, reverse=True)
    assert lines[0].endswith(f"  cannot be read, {len(body):,} bytes, trace {TRACE_ID}")
    assert lines[1].endswith("  cannot be read, 9 bytes")
    assert lines[2].endswith("  not by order-state  cannot be read, 7 bytes")
    [first, more] = await listed(spine, 3, limit=1)
    assert first in lines
    assert more == "and 2 more that are not shown; --limit shows up to 200"

    name = lines[1].split()[0]
    with pytest.raises(NotMoved, match="cannot be read; it would come back"):
        await act(spine, name, again=True)
    assert await act(spine, name, again=False) == f"dead letter {name}: removed"
    assert set(await listed(spine, 2)) == {lines[0], lines[2]}


async def test_what_came_back_too_often_is_sent_again_and_decided(spine: Spine) -> None:
    url = spine.environment["AMQP_URL"]
    await spine.order_state.stop()
    order_id = order_id_in(lambda p: p == 0)
    await publish(url, join_commands([encode_command(create_command(order_id))]))
    async with connect(url, "dying") as connection:
        for _ in range(DELIVERY_LIMIT + 1):
            await take_and_die(connection)
    [line] = await listed(spine, 1)
    assert f" delivery_limit by {partition_queue_name(0)} " in line

    await spine.order_state.start()
    await act(spine, line.split()[0], again=True)
    assert (await spine.caller.live(order_id, ("picked_up",)))[0].status == 409
    await examine(spine.environment, spine.caller.acknowledged)


async def test_a_step_that_was_applied_so_long_ago_that_its_outcome_is_forgotten_is_not_applied_twice(
    spine: Spine,
) -> None:
    order_id = order_id_in(lambda p: p == 1)
    steps = [
        create_command(order_id, update_id="create"),
        update_command(order_id, update_id="step"),
        update_command(order_id, "in_transit", update_id="scan"),
    ]
    url = spine.environment["AMQP_URL"]
    await publish(url, join_commands([encode_command(one) for one in steps]), routing_key(1))
    database_url, name = spine.environment["MONGODB_URL"], spine.environment["MONGODB_DATABASE"]
    async with open_database(database_url, name) as database:

        async def version() -> int:
            order = await database.orders.find_one({"_id": order_id})
            return order["version"] if order else 0

        async def is_applied() -> bool:
            return await version() == 3

        await eventually(is_applied)
        late = update_command(order_id, "in_transit", update_id="late")
        await publish(url, join_commands([encode_command(one) for one in (steps[2], late)]))  # not its queue
        [line] = await listed(spine, 1)
        sent = await act(spine, line.split()[0], again=True)
        assert sent.endswith(": 1 commands sent, 1 left out that were applied before")

        async def late_is_applied() -> bool:
            return f"{order_id}/late" in await stored_outcomes(database)

        await eventually(late_is_applied)
        assert await version() == 4
        history = await database.order_events.find({"order_id": order_id}).sort("version").to_list()
        assert [event["update_id"] for event in history] == ["create", "step", "scan", "late"]


async def take_and_die(connection: Connection) -> None:
    """As an order-state that ends with a message in hand."""
    consumer = await connection.consumer(partition_queue_name(0), prefetch=1)
    assert await consumer.next_batch(1)
    await consumer.close()


async def test_the_command_lists_sends_and_removes(spine: Spine) -> None:
    assert await tracking(spine, "dead") == (0, "0 dead letters\n", "")
    order_id = order_id_in(lambda p: p != 0)
    await publish(spine.environment["AMQP_URL"], join_commands([encode_command(create_command(order_id))]))
    await listed(spine, 1)
    await publish(spine.environment["AMQP_URL"], b"nonsense")
    await listed(spine, 2)

    code, output, _ = await tracking(spine, "dead", "--limit", "2")
    assert code == 0
    count, good, bad = output.splitlines()
    assert count == "2 dead letters"
    assert (await tracking(spine, "dead", "send", bad.split()[0]))[0] == 1
    assert (await tracking(spine, "dead", "drop", bad.split()[0], "--as", "ann"))[0] == 0
    assert (await tracking(spine, "dead", "send", good.split()[0]))[0] == 0
    code, _, errors = await tracking(spine, "dead", "drop", "unknown")
    assert (code, errors) == (1, "tracking: there is no dead letter unknown among the first 200\n")
    async with open_database(
        spine.environment["MONGODB_URL"], spine.environment["MONGODB_DATABASE"]
    ) as database:
        entries = await database.audit.find({"action": {"$regex": "^dead"}}).sort("at").to_list()
    assert [(entry["action"], entry["actor"]["sub"]) for entry in entries] == [
        ("dead.drop", "ann"),
        ("dead.send", getpass.getuser()),
    ]
    async with connect(spine.environment["AMQP_URL"], "tap") as connection:
        assert await connection.depth(DEAD_QUEUE) == 0


async def tracking(spine: Spine, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the command."""
    finished = await run(*arguments, environment=spine.environment)
    return finished.exit_code, finished.output, finished.errors
