"""Checks held updates against what became of them, and against their time. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from tracking_shared.contracts.documents import (
    EventDocument,
    HeldDocument,
    PartitionDocument,
    UpdateDocument,
)
from tracking_shared.contracts.held import held_update_key
from tracking_shared.contracts.timestamps import UNIX_EPOCH

HELD_TOLERANCE = timedelta(minutes=5)
"""After its time: 60 s of the sweep, differences of clocks, and a backlog after an outage."""


def held_faults(
    held: Iterable[HeldDocument],
    updates: Iterable[UpdateDocument],
    events: Iterable[EventDocument],
    horizons: Mapping[int, datetime],
) -> Iterator[str]:
    """The faults of some held updates. `updates` and `events` are those that have their update ids.

    The horizon of a partition stands still while nobody works on it.
    """
    # Several senders may have used an update id while there was no order, so the sender is compared, too.
    decided = {(update["_id"], update["source"]["id"]) for update in updates}
    decided |= {(event["update_key"], event["source"]["id"]) for event in events if "update_key" in event}
    for one in held:
        key = held_update_key(one)
        if (key, one["source"]["id"]) in decided:
            yield f"update {key} is held, and has an outcome"
        if one["until"] < horizons.get(one["partition"], UNIX_EPOCH) - HELD_TOLERANCE:
            yield f"update {key} is held, though its time was over at {one['until']}"


def count_fault(partition: PartitionDocument, counted: int) -> str | None:
    """The fault of a partition that says another number of held updates than there are."""
    if partition.get("held", 0) == counted:
        return None
    return f"partition {partition['_id']}: {counted} updates are held, it says {partition.get('held', 0)}"
