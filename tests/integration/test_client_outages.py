"""The sender of the Python client on real services that are killed under it."""

import asyncio
from secrets import token_hex

from callers import token
from fixtures import Spine
from tracking_client import Result, Sender, create, update

STEPS = ("picked_up", "in_transit", "in_transit", "delivered")


async def test_everything_sent_takes_effect_once_and_in_order_while_services_are_killed(spine: Spine) -> None:
    run = token_hex(4)
    orders = [f"{run}-{number}" for number in range(30)]
    versions: dict[str, list[int | None]] = {order_id: [] for order_id in orders}
    halfway = asyncio.Event()

    async def live(sender: Sender, order_id: str) -> None:
        operations = [create(order_id, merchant_id=run, name="Ada", contact_ref="crm:1")]
        operations += [update(order_id, status) for status in STEPS]
        pending = [await sender.submit(operation) for operation in operations]
        for number, each in enumerate(pending):
            result: Result = await each
            assert result.is_applied, result
            versions[order_id].append(result.version)
            if number == 1:
                halfway.set()

    async with Sender(spine.ingest.url, token()) as sender, asyncio.TaskGroup() as group:
        for order_id in orders:
            group.create_task(live(sender, order_id))
        await halfway.wait()
        await spine.ingest.kill()
        await spine.ingest.start()
        await spine.order_state.kill()
        await spine.order_state.start()
    assert versions == {order_id: [1, 2, 3, 4, 5] for order_id in orders}
