"""What order-state counts, as an operator sees it."""

from datetime import timedelta
from uuid import uuid4

from aiohttp import ClientSession

from builders import create_command
from callers import eventually
from fixtures import PARTITIONS, Spine
from tracking_shared.contracts.commands import COMMANDS_MEDIA_TYPE, encode_command, join_commands
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.contracts.timestamps import now
from tracking_shared.messaging.connection import connect
from tracking_shared.messaging.topology import COMMANDS_EXCHANGE, routing_key


async def samples(spine: Spine) -> dict[str, float]:
    """The metrics of order-state."""
    async with ClientSession() as session, session.get(f"{spine.order_state.url}/metrics") as response:
        lines = [line for line in (await response.text()).splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


async def test_it_tells_how_old_commands_are_when_they_are_committed(spine: Spine) -> None:
    await spine.caller.live(uuid4().hex, steps=())
    after_one = await eventually(lambda: age(spine, commands=1))
    assert 0 <= after_one < 10

    late = create_command(uuid4().hex, received_at=now() - timedelta(hours=1))
    early = create_command(late.order_id, received_at=now() + timedelta(hours=1))  # another clock
    async with connect(spine.environment["AMQP_URL"], "tap") as connection:
        publisher = await connection.publisher(COMMANDS_EXCHANGE)
        body = join_commands([encode_command(late), encode_command(early)])
        key = routing_key(partition_of(late.order_id, PARTITIONS))
        await publisher.publish(key, body, content_type=COMMANDS_MEDIA_TYPE)
    after_all = await eventually(lambda: age(spine, commands=3))
    assert 3600 <= after_all - after_one < 3660
    assert (await samples(spine))['tracking_command_seconds_bucket{le="1800.0"}'] == 2


async def test_held_updates_are_counted_from_the_start_so_that_the_first_is_an_increase(spine: Spine) -> None:
    found = await samples(spine)
    names = [f'tracking_held_decided_total{{outcome="{outcome}"}}' for outcome in ("applied", "rejected")]
    assert [found[name] for name in names] == [0, 0]


async def age(spine: Spine, commands: int) -> float | None:
    """How old all commands together were, once there were so many."""
    found = await samples(spine)
    if found["tracking_command_seconds_count"] < commands:
        return None
    assert found["tracking_command_seconds_count"] == commands
    return found["tracking_command_seconds_sum"]
