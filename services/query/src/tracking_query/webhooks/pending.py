"""Counts the events that a webhook has still to get."""

from typing import NamedTuple

from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.documents import position_key
from tracking_shared.contracts.layout import padded
from tracking_shared.contracts.webhooks import EventSelection, WebhookDocument, selection_of
from tracking_shared.storage.database import Database
from tracking_shared.storage.embedded_database import match_stages
from tracking_shared.storage.reads import bounded_read

MAX_COUNTED = 10_000
"""Events of a webhook with a filter that are counted one by one."""

MAX_SEARCHED = 50_000
"""Positions that are looked through for them, in all partitions together."""


class Pending(NamedTuple):
    """The pending events: so many `events`, or more if it is not `exact`."""

    events: int
    exact: bool


async def count_pending(database: Database, webhook: WebhookDocument, end: Position) -> Pending:
    """Counts the events up to `end` that were not delivered: behind the cursor, and of delayed orders."""
    if webhook["epoch"] != end.epoch:
        return Pending(0, exact=False)
    selection = selection_of(webhook)
    spans = list(zip(padded(webhook["seqs"], len(end.seqs)), end.seqs, strict=True))
    delayed = await _count_delayed(database, webhook, selection)
    if selection.is_everything:
        ahead = Pending(sum(max(last - seq, 0) for seq, last in spans), exact=True)
    else:
        ahead = await _count_matching(database, selection, spans)
    return Pending(delayed.events + ahead.events, delayed.exact and ahead.exact)


async def _count_matching(
    database: Database, selection: EventSelection, spans: list[tuple[int, int]]
) -> Pending:
    count, searched, exact = 0, 0, True
    for partition, (seq, end) in enumerate(spans):
        last = min(end, seq + MAX_SEARCHED - searched)
        exact = exact and last >= end
        room = MAX_COUNTED - count
        if last <= seq or room <= 0:
            continue
        searched += last - seq
        keys = {"$gt": position_key(partition, seq), "$lte": position_key(partition, last)}
        pipeline = [*match_stages([{"_id": keys}, *selection.stages()]), {"$limit": room}, {"$count": "n"}]
        with bounded_read():
            counted: list[dict[str, int]] = await (
                await database.raw["order_events"].aggregate(pipeline)
            ).to_list()
        count += counted[0]["n"] if counted else 0
        exact = exact and count < MAX_COUNTED
    return Pending(count, exact)


async def _count_delayed(database: Database, webhook: WebhookDocument, selection: EventSelection) -> Pending:
    versions = {one["order_id"]: one["version"] for one in webhook["delayed"]}
    if not versions:
        return Pending(0, exact=True)
    stages = match_stages([{"order_id": {"$in": sorted(versions)}}, *selection.stages()])
    pipeline = [*stages, {"$project": {"order_id": 1, "version": 1, "partition": 1, "seq": 1}}]
    with bounded_read():
        cursor = await database.order_events.aggregate([*pipeline, {"$limit": MAX_COUNTED}])
        found = await cursor.to_list()
    # What is behind the cursor is counted there.
    pending = [
        event
        for event in found
        if event["version"] >= versions[event["order_id"]]
        and event["seq"] <= padded(webhook["seqs"], event["partition"] + 1)[event["partition"]]
    ]
    return Pending(len(pending), len(found) < MAX_COUNTED)
