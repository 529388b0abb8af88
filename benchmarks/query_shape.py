"""The orders of the reads, shaped like those of a real marketplace, and of the large boards. Pure.

The constants describe 10,000 real orders of two years: how unevenly merchants share them, when customers
buy, and how long the legs take. All else follows from a seed: any order can be made again from its number.
"""

import hashlib
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from benchmarks.documents import Customer, event_document
from benchmarks.workload import MERCHANTS as BOARD_MERCHANTS
from benchmarks.workload import STATUSES
from tracking_shared.contracts.access import SourceType
from tracking_shared.contracts.documents import EventDocument, Metadata
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.contracts.timestamps import to_milliseconds

SEED = 20180829

START = datetime(2016, 10, 1, tzinfo=UTC)
DAYS = 700
END = START + timedelta(days=DAYS)
"""The present of the generated data. Orders whose delivery is later are under way."""

MERCHANTS = 1_600
MERCHANT_OFFSET = 8
"""The n-th merchant's share is as 1 / (n + 8): the first has 2 % of the orders, the first 100 half."""

GROWTH = 2.0
"""Orders come more often from day to day: their number by a moment grows as its age to this power."""

HOUR_WEIGHTS = (27, 12, 6, 3, 2, 2, 6, 13, 31, 44, 65, 69, 61, 63, 63, 64, 68, 59, 59, 61, 64, 62, 58, 38)
"""The frequency of new orders in each hour of the day."""

PICK_UP_HOURS = (3.94, 0.94)
DELIVERY_HOURS = (5.07, 0.87)
"""Mean and deviation of the logarithm of the hours from order to carrier (median 51 h) and from carrier
to customer (median 159 h)."""

SCAN_SECONDS = 90.0
"""The carrier scans what it has picked up, on average so much later."""

CANCELLED_SHARE = 0.01

CITIES = (
    *(("sao paulo", "SP"), ("rio de janeiro", "RJ"), ("belo horizonte", "MG"), ("brasilia", "DF")),
    *(("curitiba", "PR"), ("porto alegre", "RS"), ("salvador", "BA"), ("campinas", "SP")),
)

BOARD_START = datetime(2026, 1, 1, tzinfo=UTC)
BOARD_GAP = timedelta(milliseconds=1700)
"""Between two orders of a board; the changes of one are as far apart as a thousand of them."""

OPEN_VERSIONS = 3
"""The orders of a board are at version 1, 2 or 3 in turn, which are open ones."""

_MERCHANT_ENDS = list(accumulate(1 / (rank + MERCHANT_OFFSET) for rank in range(1, MERCHANTS + 1)))


@dataclass(frozen=True, slots=True)
class Change:
    """One change of an order."""

    status: str
    at: datetime
    source_type: SourceType
    source_id: str


@dataclass(frozen=True, slots=True)
class PlannedOrder:
    """An order, with everything that happens to it before `END`."""

    order_id: str
    merchant_id: str
    customer: Customer
    metadata: Metadata
    changes: Sequence[Change]


def planned_order(number: int, orders: int) -> PlannedOrder:
    """The order of this number (from 0) in a world of so many orders."""
    chance = random.Random(SEED * 1_000_003 + number)
    merchant_id = _merchant(chance)
    created = _created(number, orders, chance)
    return PlannedOrder(
        order_id=_digest("order", number),
        merchant_id=merchant_id,
        customer=(f"Customer {_digest('customer', number)[:8]}", _digest("customer", number)),
        metadata=_metadata(created, chance),
        changes=[change for change in _changes(created, merchant_id, chance) if change.at < END],
    )


def board_order(number: int, orders: int = 0) -> PlannedOrder:
    """The order of this number (from 0) on a large board."""
    driver, created = f"driver-{number % 2_000}", BOARD_START + number * BOARD_GAP
    return PlannedOrder(
        order_id=f"board-{number:06}",
        merchant_id=f"merchant-{number % BOARD_MERCHANTS}",
        customer=(f"Customer {number % 30_000}", f"crm-{number:06}"),
        metadata={"parcels": 1 + number % 3, "service": "standard", "zone": f"z-{number % 40}"},
        changes=[
            Change(status, created + version * 1000 * BOARD_GAP, "driver", driver)
            for version, status in enumerate(STATUSES[: 1 + number % OPEN_VERSIONS])
        ],
    )


def events_of(
    orders: int, partitions: int, plan: Callable[[int, int], PlannedOrder] = planned_order
) -> Iterator[EventDocument]:
    """All events in the order in which they were recorded; dense positions in each partition.

    Holds all orders in memory, about 1 KB each.
    """
    world = [plan(number, orders) for number in range(orders)]
    moments = [
        (change.at, number, version)
        for number, order in enumerate(world)
        for version, change in enumerate(order.changes, 1)
    ]
    seqs = [0] * partitions
    for _, number, version in sorted(moments):
        partition = partition_of(world[number].order_id, partitions)
        seqs[partition] += 1
        yield _event(world[number], version, partition, seqs[partition])


def _changes(created: datetime, merchant_id: str, chance: random.Random) -> Iterator[Change]:
    yield Change("created", created, "system", merchant_id)
    picked_up = created + timedelta(hours=chance.lognormvariate(*PICK_UP_HOURS))
    if chance.random() < CANCELLED_SHARE:
        yield Change("cancelled", to_milliseconds(picked_up), "operator", "desk-1")
        return
    scanned = picked_up + timedelta(seconds=1 + chance.expovariate(1 / SCAN_SECONDS))
    delivered = scanned + timedelta(hours=chance.lognormvariate(*DELIVERY_HOURS))
    driver = f"driver-{chance.randrange(5_000)}"
    for status, time in (("picked_up", picked_up), ("in_transit", scanned), ("delivered", delivered)):
        yield Change(status, to_milliseconds(time), "driver", driver)


def _created(number: int, orders: int, chance: random.Random) -> datetime:
    day = int(DAYS * ((number + 0.5) / orders) ** (1 / GROWTH))
    (hour,) = chance.choices(range(24), HOUR_WEIGHTS)
    return to_milliseconds(START + timedelta(days=day, hours=hour, seconds=chance.uniform(0, 3600)))


def _merchant(chance: random.Random) -> str:
    rank = bisect_right(_MERCHANT_ENDS, chance.uniform(0, _MERCHANT_ENDS[-1]))
    return merchant_id_of(min(rank, MERCHANTS - 1))


def merchant_id_of(rank: int) -> str:
    """The id of a merchant: 0 is the one with most orders."""
    return _digest("merchant", rank)


def _metadata(created: datetime, chance: random.Random) -> Metadata:
    city, state = chance.choice(CITIES)
    return {
        "city": city,
        "state": state,
        "items": 1 + (chance.random() < 0.1),
        "price_brl": round(chance.lognormvariate(4.3, 0.9), 2),
        "freight_brl": round(chance.lognormvariate(2.8, 0.5), 2),
        "approved_at": (created + timedelta(minutes=20)).isoformat(),
        "due": (created + timedelta(days=24)).date().isoformat(),
    }


def _event(order: PlannedOrder, version: int, partition: int, seq: int) -> EventDocument:
    change = order.changes[version - 1]
    event = event_document(
        (order.order_id, order.merchant_id),
        order.customer,
        [change.status for change in order.changes[:version]],
        (partition, seq),
        (order.changes[0].at, change.at),
        (change.source_type, change.source_id),
        order.metadata if version == 1 else {},
        order.metadata,
        sent_before=timedelta(minutes=1),
        received_before=timedelta(milliseconds=5),
    )
    return event | {"traceparent": f"00-{order.order_id}-{seq:016x}-01"}


def _digest(kind: str, number: int) -> str:
    return hashlib.blake2b(f"{SEED}/{kind}/{number}".encode(), digest_size=16).hexdigest()
