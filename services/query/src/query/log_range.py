"""The part of the log that was recorded in a range of time, found by halving: positions are dense."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from shared.bounded_reads import bounded_read
from shared.cursors import Position
from shared.database import Database
from shared.documents import position_key

MAX_DISORDER = timedelta(minutes=1)
"""How much earlier than one before it an event of a partition may seem to be recorded: its owner may have
changed, and the clocks of the two differ."""


async def positions_between(
    database: Database, head: Position, start: datetime, end: datetime | None
) -> list[range]:
    """Seqs of each partition, up to `head`, among which are all events recorded from `start` on and before
    `end` (None: up to the head). There are a few others among them.

    Raises:
        DatabaseUnavailable: it does not answer, or not in time.
    """
    firsts = await _first_at(database, head, start - MAX_DISORDER)
    if end is None:
        return [range(first, seq + 1) for first, seq in zip(firsts, head.seqs, strict=True)]
    return list(map(range, firsts, await _first_at(database, head, end + MAX_DISORDER)))


async def _first_at(database: Database, head: Position, time: datetime) -> list[int]:
    """A seq of each partition before which an event was recorded earlier than `time`, and at which not."""
    low, high = [1] * len(head.seqs), [seq + 1 for seq in head.seqs]
    while open_ones := [partition for partition, (a, b) in enumerate(zip(low, high, strict=True)) if a < b]:
        middles = {partition: (low[partition] + high[partition]) // 2 for partition in open_ones}
        recorded = await _recorded_at(database, middles)
        for partition, seq in middles.items():
            key = position_key(partition, seq)
            # One that is missing counts as early: what is removed is old.
            if key in recorded and recorded[key] >= time:
                high[partition] = seq
            else:
                low[partition] = seq + 1
    return low


async def _recorded_at(database: Database, seqs: Mapping[int, int]) -> dict[int, datetime]:
    keys = [position_key(partition, seq) for partition, seq in seqs.items()]
    with bounded_read():
        found = await database.order_events.find({"_id": {"$in": keys}}, {"recorded_at": 1}).to_list()
    return {event["_id"]: event["recorded_at"] for event in found}


def windows_of(spans: Sequence[range], width: int) -> list[tuple[int, range]]:
    """The spans in pieces of at most `width` positions: partition and seqs, one partition after another."""
    return [
        (partition, span[start : start + width])
        for partition, span in enumerate(spans)
        for start in range(0, len(span), width)
    ]
