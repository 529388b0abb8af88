"""The cache of a worker: the orders that it has decided on lately, so that it need not read them again.
No I/O, no clock.

The owner of a partition is its only writer, and the fence proves at each commit that it still was. So what
the owner read or wrote at a position is true as long as its commits succeed from there. The cache notes that
position (`commits`) for each partition. What it knows of the partition is dropped whole as soon as the
position is another one: after a claim, a recovery, or a commit that did not end well.

It answers for a command only where the decision is going to be committed behind the fence:

- *The order.* Its document, as it is after the newest commit.
- *A refused update id.* The cache holds all refused ids of an order, or says that it does not. The set may
  hold ids whose refusal has been removed since (they expire), never too few. An id in it is read. For orders
  that are created it holds the *unknown orders*: all order ids under which something was refused while there
  was no such order.
- *An applied update id.* The cache holds the newest ids of an order. An id among them is read. Where they are
  all (as many as the order has versions), any other id was never used. Elsewhere it is *assumed* to be new.
  If the update is applied, the unique indexes of the event log prove it: they refuse a second event of one
  update and a second first event of an order. If it is not, its outcome is read after all.

So whatever is answered without a commit (a repeat, an order that the caller does not reach) is read.
Commands of parked orders are always read.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from tracking_order_state.domain.decisions import Decisions
from tracking_order_state.domain.partition import PartitionPosition
from tracking_order_state.domain.remembered_orders import (
    MAX_IDS,
    NOT_LISTED,
    RememberedOrder,
    RememberedPartition,
    Unlisted,
)
from tracking_shared.contracts.access import reaches
from tracking_shared.contracts.commands import AnyCommand, CreateOrder
from tracking_shared.contracts.documents import OrderDocument, update_key

CAUTIOUS_BATCHES = 32
"""Cautious batches of a partition, in which nothing is assumed, after an assumption that was wrong.
Repeats come in crowds, as when a file is loaded again, and each wrong assumption costs a transaction."""


@dataclass(slots=True)
class Recollection:
    """The part of a batch that the cache answers for, and what is to be read for the rest."""

    orders: dict[str, OrderDocument] = field(default_factory=dict)
    assumed: set[str] = field(default_factory=set)
    """Keys of updates that are assumed to be new. A unique index checks it where they are applied; the
    outcome of any other (a *doubtful* one) must be read."""
    unread: list[AnyCommand] = field(default_factory=list)
    """Commands whose order and outcome are to be read."""
    missing: set[str] = field(default_factory=set)
    """Orders to load, with their refused ids; then ask the cache again."""
    created: set[str] = field(default_factory=set)
    """Orders that a create names and nobody knows: only their refused ids are to be loaded."""
    needs_unknown_orders: bool = False
    """The unknown orders are to be listed: the order ids under which something was refused while there was no
    such order."""
    hits: int = 0
    """Commands that are answered for."""


class OrderCache:
    """Orders of all partitions of one worker, within `max_bytes` together and the orders of one batch. With 0
    bytes it knows nothing, and everything is read.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._sections: dict[int, RememberedPartition] = {}
        self._cautious: dict[int, int] = {}

    @property
    def size(self) -> int:
        """The estimated bytes."""
        return sum(section.size for section in self._sections.values())

    def __len__(self) -> int:
        return sum(len(section.entries) for section in self._sections.values())

    # Looking up.

    def recall(
        self, position: PartitionPosition, commands: Sequence[AnyCommand], *, is_loaded: bool = False
    ) -> Recollection:
        """The known documents of `commands` at `position`, and the commands to read. `is_loaded` follows
        `learn`: orders that are still not remembered are not asked for again, their commands are read.
        """
        if not self._max_bytes or not commands:
            return Recollection(unread=list(commands))
        section = self._section_at(position)
        assuming = is_loaded or self._may_assume(position.partition)
        found = Recollection()
        for command in commands:
            if command.order_id in position.parked_orders:
                found.unread.append(command)
            elif entry := section.entries.get(command.order_id):
                section.entries.move_to_end(command.order_id)
                _recall(found, entry, command, assuming=assuming)
            elif is_loaded or not assuming:
                found.unread.append(command)
            elif isinstance(command, CreateOrder) and command.order_id not in found.missing:
                self._recall_create(found, section, command)
            elif command.order_id not in found.created:
                found.missing.add(command.order_id)
        return found

    def _recall_create(self, found: Recollection, section: RememberedPartition, command: CreateOrder) -> None:
        if isinstance(section.unknown_orders, set) and command.order_id not in section.unknown_orders:
            section.put(command.order_id, entry := RememberedOrder(None, set()))
            _recall(found, entry, command, assuming=True)
        else:
            found.created.add(command.order_id)
            found.needs_unknown_orders |= section.unknown_orders is Unlisted.NOT_ASKED

    def _may_assume(self, partition: int) -> bool:
        # After an assumption was wrong, some batches read everything; each of them counts down.
        left = self._cautious.pop(partition, 0)
        if left > 1:
            self._cautious[partition] = left - 1
        return left == 0

    def _section_at(self, position: PartitionPosition) -> RememberedPartition:
        section = self._sections.get(position.partition)
        if section is None or section.commits != position.commits:
            section = self._sections[position.partition] = RememberedPartition(position.commits)
        return section

    def is_known(self, position: PartitionPosition, order_id: str) -> bool:
        """True if the order is remembered at `position`, so it exists in this partition."""
        section = self._sections.get(position.partition)
        if section is None or section.commits != position.commits:
            return False
        entry = section.entries.get(order_id)
        return entry is not None and entry.order is not None

    # Learning.

    def learn(
        self,
        position: PartitionPosition,
        orders: Mapping[str, OrderDocument],
        refused: Mapping[str, Collection[str]],
    ) -> None:
        """Adds what was read at `position`: for each order in `refused` its refused update ids, all or more
        than `MAX_IDS`, and its document if it was looked for and found.
        """
        section = self._section_at(position)
        for order_id, ids in refused.items():
            listed = NOT_LISTED if len(ids) > MAX_IDS else set(ids)
            section.put(order_id, RememberedOrder(orders.get(order_id), listed))

    def learn_unknown_orders(self, position: PartitionPosition, order_ids: Collection[str] | None) -> None:
        """Adds all order ids under which something was refused without an order; None: they are too many."""
        self._section_at(position).unknown_orders = Unlisted.TOO_MANY if order_ids is None else set(order_ids)

    def suspend(self, position: PartitionPosition) -> None:
        """Notes that a commit at `position` begins: unless `commit` or `resume` follows, all is dropped."""
        self._section_at(position).commits = None

    def resume(self, position: PartitionPosition) -> None:
        """Notes that certainly nothing was written of the commit at `position`."""
        if section := self._sections.get(position.partition):
            section.commits = position.commits

    def commit(self, positions: Sequence[PartitionPosition], decisions: Sequence[Decisions]) -> None:
        """Adds what was committed; `positions` are those after it. Only for decisions on which all that was
        known came from `recall`, or was read at the positions before.
        """
        for position, decided in zip(positions, decisions, strict=True):
            if section := self._sections.get(position.partition):
                section.add(decided)
                section.commits = position.commits
        self._trim()

    def _trim(self) -> None:
        while (excess := self.size - self._max_bytes) > 0:
            # All at the expense of one partition, since a sum over all of them for each order would be dear.
            section = max(self._sections.values(), key=lambda section: section.size)
            kept = section.size - excess
            while section.entries and section.size > kept:
                section.remove(next(iter(section.entries)))

    # Dropping.

    def drop(self, partition: int) -> None:
        """Drops all that is known of a partition."""
        self._sections.pop(partition, None)

    def refute(self, position: PartitionPosition, assumed: Collection[str]) -> None:
        """Notes that one of the `assumed` keys was not new, so that nothing of the commit at `position` was
        written. What is known stays; for a while nothing is assumed.
        """
        self.resume(position)
        self._cautious[position.partition] = CAUTIOUS_BATCHES
        self._section_at(position)
        self.forget_unseen({key.partition("/")[0] for key in assumed})

    def forget_unseen(self, order_ids: Collection[str]) -> None:
        """Drops those of these orders that were taken to be new. They exist, so more may have been refused
        than is remembered.
        """
        for section in self._sections.values():
            for order_id in order_ids:
                if (entry := section.entries.get(order_id)) and entry.order is None:
                    section.remove(order_id)


def _recall(found: Recollection, entry: RememberedOrder, command: AnyCommand, *, assuming: bool) -> None:
    is_new = entry.knows_every_applied_id()
    if _must_be_read(entry, command) or not (is_new or assuming):
        found.unread.append(command)
        return
    found.hits += 1
    if not is_new:
        found.assumed.add(update_key(command.order_id, command.update_id))
    if entry.order is not None:
        found.orders[command.order_id] = entry.order


def _must_be_read(entry: RememberedOrder, command: AnyCommand) -> bool:
    if entry.refused is None or command.update_id in entry.refused or command.update_id in entry.applied:
        return True
    return entry.order is not None and not reaches(
        command.grant, command.order_id, entry.order["merchant_id"]
    )
