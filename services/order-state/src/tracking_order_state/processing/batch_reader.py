"""Gathers what a batch must know before it is decided: from the cache of orders, and from the store for the
rest.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from tracking_order_state import metrics
from tracking_order_state.adapters.store import Store
from tracking_order_state.domain.decisions import NOTHING_KNOWN, Decisions, Known
from tracking_order_state.domain.order_cache import OrderCache, Recollection
from tracking_order_state.domain.partition import PartitionPosition
from tracking_order_state.processing.stages import PartitionBatch
from tracking_shared.contracts.commands import AnyCommand
from tracking_shared.contracts.documents import update_key
from tracking_shared.contracts.held import sender_key


@dataclass(frozen=True, slots=True)
class BatchKnowledge:
    """The known documents of a batch, and what is only assumed of it."""

    known: Known
    assumed: frozenset[str] = frozenset()
    """Keys of updates that were not looked up. If one is applied although it is not new, a unique index
    rejects the commit."""

    def doubtful(self, commands: Sequence[AnyCommand], decisions: Sequence[Decisions]) -> list[AnyCommand]:
        """The commands that were assumed to be new and are not applied: no index will check that they are
        new, so their outcomes must be read. With them, all others of their orders that were assumed to be
        new: where an order turns out to exist that was taken to be new, more is wrong than one command.
        """
        if not self.assumed:
            return []
        applied = {update_key(e["order_id"], e["update_id"]) for one in decisions for e in one.events}
        doubtful = self.assumed - applied
        if not doubtful:
            return []
        assumed = [c for c in commands if update_key(c.order_id, c.update_id) in self.assumed]
        orders = {c.order_id for c in assumed if update_key(c.order_id, c.update_id) in doubtful}
        return [command for command in assumed if command.order_id in orders]


class BatchReader:
    """Reads what the cache does not know from the store, causally after the worker's claims and commits."""

    def __init__(self, store: Store, cache: OrderCache) -> None:
        self._store = store
        self._cache = cache

    async def read(
        self, parts: Sequence[PartitionBatch], positions: Sequence[PartitionPosition]
    ) -> BatchKnowledge:
        """The known documents that the commands of all parts name.

        Raises:
            DatabaseUnavailable: no answer.
        """
        recalled = [self._recall(part, position) for part, position in zip(parts, positions, strict=True)]
        if any(one.needs_unknown_orders for one in recalled):
            recalled = await self._list_unknown_orders(parts, positions, recalled)
        hits = sum(one.hits for one in recalled)
        if any(one.missing or one.created for one in recalled):
            recalled = await self._load_orders(parts, positions, recalled)
        metrics.ORDER_CACHE_COMMANDS.labels("hit").inc(hits)
        metrics.ORDER_CACHE_COMMANDS.labels("miss").inc(sum(len(part.commands) for part in parts) - hits)
        unread = [command for one in recalled for command in one.unread]
        parked_orders = {order_id for position in positions for order_id in position.parked_orders}
        known = await self._load(unread, parked_orders)
        orders = {key: order for one in recalled for key, order in one.orders.items()}
        assumed = frozenset().union(*(one.assumed for one in recalled))
        known = replace(known, orders=orders | known.orders)
        commands = [(part.commands, position) for part, position in zip(parts, positions, strict=True)]
        return BatchKnowledge(await self.with_held(known, commands), assumed)

    async def with_held(
        self, known: Known, commands: Sequence[tuple[Sequence[AnyCommand], PartitionPosition]]
    ) -> Known:
        """Adds the held updates of the orders of these commands, and what stays of those that are archived.
        Where none is held or archived, nothing is read.

        Raises:
            TooManyHeld: they are more than one transaction should apply.
            DatabaseUnavailable: no answer.
        """
        known = await self._with_archived(known, commands)
        concerned = [(some, position) for some, position in commands if position.held and some]
        if not concerned:
            return known
        order_ids = {command.order_id for some, _ in concerned for command in some}
        senders = {
            sender_key(position.partition, command.source.id)
            for some, position in concerned
            for command in some
            if command.order_id not in known.orders
        }
        held, events, waiting = await self._store.load_held(order_ids, senders)
        return replace(known, events=events | known.events, held=held, waiting=waiting)

    async def _with_archived(
        self, known: Known, commands: Sequence[tuple[Sequence[AnyCommand], PartitionPosition]]
    ) -> Known:
        unknown = {
            command.order_id
            for some, position in commands
            if position.archived
            for command in some
            if command.order_id not in known.orders
        }
        return replace(known, archived=await self._store.load_archived(unknown)) if unknown else known

    async def _list_unknown_orders(
        self,
        parts: Sequence[PartitionBatch],
        positions: Sequence[PartitionPosition],
        recalled: Sequence[Recollection],
    ) -> list[Recollection]:
        unknown_orders = await self._store.load_unknown_orders()
        for position, one in zip(positions, recalled, strict=True):
            if one.needs_unknown_orders:
                self._cache.learn_unknown_orders(position, unknown_orders)
        return [
            self._recall(part, position) if one.needs_unknown_orders else one
            for part, position, one in zip(parts, positions, recalled, strict=True)
        ]

    async def _load_orders(
        self,
        parts: Sequence[PartitionBatch],
        positions: Sequence[PartitionPosition],
        recalled: Sequence[Recollection],
    ) -> list[Recollection]:
        missing = {order_id for one in recalled for order_id in one.missing}
        created = {order_id for one in recalled for order_id in one.created}
        orders, refused = await self._store.load_orders(missing, created)
        for position, one in zip(positions, recalled, strict=True):
            wanted = one.missing | one.created
            own = {order_id: ids for order_id, ids in refused.items() if order_id in wanted}
            self._cache.learn(position, orders, own)
        return [
            self._recall(part, position, is_loaded=True) if one.missing or one.created else one
            for part, position, one in zip(parts, positions, recalled, strict=True)
        ]

    def _recall(
        self, part: PartitionBatch, position: PartitionPosition, *, is_loaded: bool = False
    ) -> Recollection:
        if part.may_be_unpublished:  # most of them are known: each is read
            return Recollection(unread=list(part.commands))
        return self._cache.recall(position, part.commands, is_loaded=is_loaded)

    async def _load(self, commands: Sequence[AnyCommand], parked_orders: Collection[str] = ()) -> Known:
        return await self._store.load(commands, parked_orders) if commands else NOTHING_KNOWN

    async def read_doubtful(
        self, knowledge: BatchKnowledge, commands: Sequence[AnyCommand]
    ) -> BatchKnowledge:
        """The same with the outcomes of the doubtful `commands` read, so that they are not assumed any more.

        Raises:
            DatabaseUnavailable: no answer.
        """
        metrics.ORDER_CACHE_COMMANDS.labels("doubt").inc(len(commands))
        found = await self._load(commands)
        self._cache.forget_unseen(found.orders)
        before = knowledge.known
        known = replace(
            before,
            orders=before.orders | found.orders,
            events=before.events | found.events,
            refusals=before.refusals | found.refusals,
            parked=before.parked | found.parked,
        )
        read = {update_key(command.order_id, command.update_id) for command in commands}
        return BatchKnowledge(known, knowledge.assumed - read)
