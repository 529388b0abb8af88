"""Events, audiences and histories for the notifier's unit tests."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from tracking_notifier.stream.events import Event, event_of
from tracking_notifier.stream.filters import Audience, Filter
from tracking_shared.contracts.access import Grant
from tracking_shared.contracts.documents import EventDocument, OrderDocument, position_key, project
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

MERCHANTS = ["acme", "beta", "zeta"]
ORDERS = [f"o-{number}" for number in range(8)]
STATUSES = sorted(DEFAULT_WORKFLOW.statuses)
TIME = datetime(2026, 3, 1, 8, tzinfo=UTC)


def merchant_of(order_id: str) -> str:
    """Each order belongs to one merchant, always the same."""
    return MERCHANTS[ORDERS.index(order_id) % len(MERCHANTS)]


@dataclass
class History:
    """A log and the orders that it leads to, kept in memory."""

    partitions: int = 2
    padding_bytes: int = 0
    """How much longer every order is than it need be."""
    log: list[list[EventDocument]] = field(default_factory=list)
    orders: dict[str, OrderDocument] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log = [[] for _ in range(self.partitions)]

    def apply(self, order_id: str, status: str, overdue: bool = False) -> Event:
        """Appends one change. The states need not follow the rules: the notifier does not care."""
        before = self.orders.get(order_id)
        partition = partition_of(order_id, self.partitions)
        seq = len(self.log[partition]) + 1
        document = EventDocument(
            _id=position_key(partition, seq),
            order_id=order_id,
            merchant_id=merchant_of(order_id),
            customer={"name": "Jane Roe", "contact_ref": "+31 6 1234"},
            version=before["version"] + 1 if before else 1,
            partition=partition,
            seq=seq,
            status=status,
            previous_status=before["status"] if before else None,
            active=DEFAULT_WORKFLOW.is_active(status),
            update_id=f"u-{order_id}-{seq}",
            source={"type": "system", "id": "test"},
            occurred_at=None,
            received_at=TIME,
            recorded_at=TIME,
            created_at=TIME,
            metadata={},
            order_metadata={"padding": "x" * self.padding_bytes} if self.padding_bytes else {},
        )
        if overdue and document["active"]:
            document |= {"due_at": TIME, "announced_due_at": TIME, "overdue": True}  # type: ignore[typeddict-item]
        if before and before.get("overdue"):
            document["previous_overdue"] = True
        self.log[partition].append(document)
        self.orders[order_id] = project(document)
        return event_of(document, DEFAULT_WORKFLOW)

    @property
    def seqs(self) -> tuple[int, ...]:
        return tuple(len(events) for events in self.log)


def is_found(query: dict[str, Any], document: Any) -> bool:
    """Whether a query finds a document: the part of the language that `snapshot_query` uses."""
    for name, wanted in query.items():
        match wanted:
            case {"$in": values}:
                held = document[name] in values
            case {"$ne": other}:
                held = document.get(name) != other
            case {"$gte": least}:
                held = document[name] >= least
            case _:
                held = document.get(name) == wanted
        if not held:
            return False
    return True


def some(values: list[str]) -> st.SearchStrategy[frozenset[str] | None]:
    return st.none() | st.frozensets(st.sampled_from(values), min_size=1)


changes = st.tuples(st.sampled_from(ORDERS), st.sampled_from(STATUSES), st.booleans())

grants = st.builds(
    Grant,
    merchants=st.frozensets(st.sampled_from([*MERCHANTS, "*"])),
    orders=some(ORDERS),
)
filters = st.builds(
    Filter,
    merchant_ids=some(MERCHANTS),
    order_ids=some(ORDERS),
    statuses=some(STATUSES),
    active=st.none() | st.booleans(),
    overdue=st.none() | st.none() | st.none() | st.booleans(),
)
audiences = st.builds(Audience, grant=grants, filter=filters)
