"""Keeps orders in their homes after the number of partitions was changed.

The senders of commands know the homes, and while the number of partitions changes they are kept from sending.
So a command seldom comes to another partition than its order's: a sender, or the database that it asked, was
not up to date. Such a command is sent on.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from secrets import token_hex

from tracking_order_state.adapters.store import Store
from tracking_order_state.domain.order_cache import OrderCache
from tracking_order_state.processing.stages import PartitionBatch
from tracking_shared.contracts.commands import COMMANDS_MEDIA_TYPE, AnyCommand, encode_command, join_commands
from tracking_shared.contracts.formats import COMMANDS, message_headers
from tracking_shared.contracts.layout import Layout
from tracking_shared.messaging.connection import Connection
from tracking_shared.messaging.topology import partition_queue_name

Forward = Callable[[int, AnyCommand], Awaitable[None]]
"""Sends a command to the queue of a partition. Raises `BrokerUnavailable`."""


async def forward_nothing(partition: int, command: AnyCommand) -> None:
    """For a processor of one generation of partitions, where all commands are at home."""
    raise AssertionError(f"a command of {command.order_id} is for partition {partition}")


async def open_forward(connection: Connection) -> Forward:
    """Sends commands on over this connection.

    Raises:
        BrokerUnavailable: the connection is gone.
    """
    publisher = await connection.publisher("")

    async def forward(partition: int, command: AnyCommand) -> None:
        await publisher.publish(
            partition_queue_name(partition),
            join_commands([encode_command(command)]),
            content_type=COMMANDS_MEDIA_TYPE,
            message_id=token_hex(8),
            headers=message_headers(COMMANDS),
        )

    return forward


class Placement:
    """Sends the commands on that are for other partitions."""

    def __init__(self, layout: Layout, store: Store, cache: OrderCache, forward: Forward) -> None:
        self._layout = layout
        self._store = store
        self._cache = cache
        self._forward = forward

    async def placed(self, part: PartitionBatch) -> PartitionBatch:
        """The part without the commands that are for other partitions, which have been sent on. Their callers
        get no outcome: ingest answers them with 202.

        Raises:
            DatabaseUnavailable: no answer.
            BrokerUnavailable: a command could not be sent on.
        """
        position = part.partition.position
        if self._layout.generation == 0 or not part.commands:
            return part
        order_ids = {command.order_id for command in part.commands}
        known = {one for one in order_ids if position is not None and self._cache.is_known(position, one)}
        found = await self._store.find_homes(self._layout, order_ids - known)
        return await self._without_misplaced(part, found | dict.fromkeys(known, part.partition.number))

    async def _without_misplaced(self, part: PartitionBatch, homes: dict[str, int]) -> PartitionBatch:
        kept: list[AnyCommand] = []
        sizes: list[int] = []
        rest = iter(part.commands)
        for size in part.sizes:
            before = len(kept)
            for command in (next(rest) for _ in range(size)):
                home = homes.get(command.order_id, self._layout.new_home(command.order_id))
                if home == part.partition.number:
                    kept.append(command)
                else:
                    await self._forward(home, command)
            sizes.append(len(kept) - before)
        return replace(part, commands=kept, sizes=sizes)
