"""The world that the reads are measured on is one that the system could have recorded."""

from collections import Counter
from datetime import timedelta
from statistics import median

from benchmarks.query_shape import DAYS, END, START, events_of, planned_order

from tracking.upkeep.checker import Inspection, Records
from tracking_shared.contracts.documents import EventDocument, PartitionDocument, project

ORDERS = 1_000
PARTITIONS = 4


def _partitions(events: list[EventDocument]) -> list[PartitionDocument]:
    seqs = Counter(event["partition"] for event in events)
    return [
        {"_id": number, "seq": seqs[number], "commits": 0, "worker": "", "epoch": "e", "parked": []}
        for number in range(PARTITIONS)
    ]


def test_the_checker_finds_no_fault_in_it() -> None:
    events = list(events_of(ORDERS, PARTITIONS))
    orders = {event["order_id"]: project(event) for event in events}
    inspection = Inspection(_partitions(events), outcomes_since=END)

    faults = [*inspection.order_faults(Records(orders=list(orders.values()), events=events))]

    assert [*faults, *inspection.partition_faults()] == []
    assert len(orders) == ORDERS


def test_it_is_the_same_each_time_and_any_order_can_be_made_alone() -> None:
    events = list(events_of(ORDERS, PARTITIONS))

    assert events == list(events_of(ORDERS, PARTITIONS))
    alone = planned_order(834, ORDERS)
    history = [event["status"] for event in events if event["order_id"] == alone.order_id]
    assert history == [change.status for change in alone.changes]


def test_it_has_the_shape_of_the_real_orders() -> None:
    world = [planned_order(number, ORDERS) for number in range(ORDERS)]
    merchants = Counter(order.merchant_id for order in world)
    delivered = [order for order in world if order.changes[-1].status == "delivered"]

    assert 0.4 < sum(number for _, number in merchants.most_common(100)) / ORDERS < 0.6
    assert 0.9 < len(delivered) / ORDERS < 0.99
    legs = [order.changes[-1].at - order.changes[0].at for order in delivered]
    assert timedelta(days=8) < median(legs) < timedelta(days=12)
    assert all(START <= order.changes[0].at < START + timedelta(days=DAYS) for order in world)
