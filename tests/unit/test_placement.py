"""A command is decided in the partition of its order, and sent on from any other one."""

from collections.abc import Collection

from builders import create_command, update_command
from tracking_order_state.domain.order_cache import OrderCache
from tracking_order_state.processing.placement import Placement
from tracking_order_state.processing.stages import PartitionBatch, PartitionState
from tracking_shared.contracts.commands import AnyCommand
from tracking_shared.contracts.layout import Layout

LAYOUT = Layout((1, 1))
"""Orders from before the change are in partition 0, new ones in partition 1."""


async def nothing() -> None:
    """The deliveries are ours."""


class Homes:
    """A store with some orders, and a broker that notes what is sent on."""

    def __init__(self, **homes: int) -> None:
        self.homes = homes
        self.asked: list[str] = []
        self.sent_on: list[tuple[int, AnyCommand]] = []

    async def find_homes(self, layout: Layout, order_ids: Collection[str]) -> dict[str, int]:
        self.asked += sorted(order_ids)
        return {order_id: self.homes[order_id] for order_id in order_ids if order_id in self.homes}

    async def forward(self, partition: int, command: AnyCommand) -> None:
        self.sent_on.append((partition, command))

    async def placed(
        self, partition: int, *messages: list[AnyCommand], layout: Layout = LAYOUT
    ) -> PartitionBatch:
        commands = [command for message in messages for command in message]
        part = PartitionBatch(
            PartitionState(partition, nothing),
            commands=commands,
            sizes=[len(message) for message in messages],
        )
        placement = Placement(layout, self, OrderCache(0), self.forward)  # type: ignore[arg-type]
        return await placement.placed(part)


async def test_what_is_for_another_partition_is_sent_on_in_its_order() -> None:
    homes = Homes(old=0)
    first, second, third = update_command("new"), update_command("old"), update_command("new")
    placed = await homes.placed(0, [first, second], [third])
    assert placed.commands == [second]
    assert placed.sizes == [1, 0]
    assert homes.sent_on == [(1, first), (1, third)]


async def test_an_order_from_before_stays_where_it_is() -> None:
    homes = Homes(old=0)
    command = update_command("old")
    assert (await homes.placed(1, [command])).commands == []
    assert homes.sent_on == [(0, command)]


async def test_a_new_order_is_created_in_the_newest_partitions() -> None:
    homes = Homes()
    command = create_command(order_id="new")
    assert (await homes.placed(1, [command])).commands == [command]
    assert homes.sent_on == []


async def test_before_the_first_change_nothing_is_looked_up() -> None:
    homes = Homes()
    command = update_command("any")
    assert (await homes.placed(0, [command], layout=Layout((1,)))).commands == [command]
    assert homes.asked == []
