"""Serving over connections: again after a loss, and not when it is told to end."""

import asyncio

from servers import Broker
from shared.broker import BrokerUnavailable, Connection, serve_connections


async def test_it_serves_again_after_each_loss(broker_node: Broker) -> None:
    served = 0

    async def lose_it_twice(_: Connection) -> None:
        nonlocal served
        served += 1
        if served < 3:
            async with asyncio.TaskGroup() as group:
                group.create_task(fall())

    await asyncio.wait_for(serve_connections(broker_node.url, "test", lose_it_twice), 30)

    assert served == 3


async def test_told_to_end_it_ends_also_when_its_parts_answer_with_a_loss(broker_node: Broker) -> None:
    begun = asyncio.Event()

    async def serve(_: Connection) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fall_when_cancelled(begun))

    serving = asyncio.create_task(serve_connections(broker_node.url, "test", serve))
    await asyncio.wait_for(begun.wait(), 30)
    serving.cancel()
    _, unheeding = await asyncio.wait({serving}, timeout=10)
    serving.cancel()
    assert not unheeding


async def fall() -> None:
    """Fails while its group waits for it."""
    await asyncio.sleep(0)
    raise BrokerUnavailable("lost")


async def fall_when_cancelled(begun: asyncio.Event) -> None:
    """As whoever publishes when the driver's connection goes."""
    begun.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError as error:
        raise BrokerUnavailable("lost") from error
