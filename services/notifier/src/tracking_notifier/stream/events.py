"""Events on their way to clients, and the arithmetic on their sequence numbers. No I/O, no clock."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import orjson

from tracking_notifier.errors import UndecodableEvents
from tracking_shared.contracts.cursors import MAX_PARTITIONS
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.formats import (
    EVENTS,
    NO_HEADERS,
    InvalidFormat,
    NewerFormat,
    message_version,
    upcast_items,
)
from tracking_shared.contracts.messages import CloudEvent, cloud_event, without_customer
from tracking_shared.contracts.workflow import Workflow

EVENT_OVERHEAD_BYTES = 500
"""Measured: the memory of an event without its encoded forms."""


@dataclass(slots=True, eq=False)
class Event:
    """An event of the log: the members that filters compare, and its JSON, encoded once for all clients."""

    partition: int
    seq: int
    order_id: str
    merchant_id: str
    version: int
    status: str
    active: bool
    previous_status: str | None
    previous_active: bool
    overdue: bool
    previous_overdue: bool
    full: bytes
    """The CloudEvent with the customer."""
    erases: bool = False
    """True: it says that the customer of its order was erased."""
    _without_customer: bytes | None = field(default=None, repr=False)

    @property
    def memory_bytes(self) -> int:
        """The memory that the event takes."""
        # The form without personal data is encoded when it is first needed, and counted from the start.
        return 2 * len(self.full) + EVENT_OVERHEAD_BYTES

    def encoded(self, *, with_customer: bool) -> bytes:
        """The CloudEvent as JSON, with or without personal data."""
        if with_customer:
            return self.full
        if self._without_customer is None:
            self._without_customer = orjson.dumps(without_customer(orjson.loads(self.full)))
        return self._without_customer

    def erase(self, erased_at: str) -> int:
        """Erases the customer, in place: whoever is about to send the event has it, too. Returns the memory
        that this frees.
        """
        before = self.memory_bytes
        document: CloudEvent = orjson.loads(self.full)
        if document["data"].get("customer") is not None:
            document["data"] |= {"customer": None, "erased_at": erased_at}
            self.full, self._without_customer = orjson.dumps(document), None
        return before - self.memory_bytes

    @property
    def erased_at(self) -> str:
        """When the customer was erased, of an event that `erases`."""
        erased_at: str = orjson.loads(self.full)["data"]["erased_at"]
        return erased_at


Erased = dict[str, str]
"""When the customers of orders were erased, by order id."""


def erase_in(events: Iterable[Event], erased: Erased) -> int:
    """Erases the customers of these orders in `events`. Returns the memory that this frees."""
    return sum(event.erase(erased[event.order_id]) for event in events if event.order_id in erased)


def event_of(document: EventDocument, workflow: Workflow) -> Event:
    """Converts a document of the event log."""
    return _event(cloud_event(document, workflow), workflow)


def decode_events(body: bytes, workflow: Workflow, headers: Mapping[str, Any] = NO_HEADERS) -> list[Event]:
    """Decodes the events of one broker message.

    Raises:
        UndecodableEvents: not a JSON array of our CloudEvents of possible partitions, or in a newer format.
    """
    try:
        version = message_version(EVENTS, headers)
        documents = upcast_items(EVENTS, _list(orjson.loads(body)), version)
        events = [_event(document, workflow) for document in documents]
    except (ValueError, KeyError, TypeError, AttributeError, InvalidFormat, NewerFormat) as error:
        raise UndecodableEvents(f"{len(body)} bytes: {error!r}") from None
    for event in events:
        if not 0 <= event.partition < MAX_PARTITIONS:
            raise UndecodableEvents(f"partition {event.partition} of {MAX_PARTITIONS}")
    return events


def _event(document: CloudEvent, workflow: Workflow) -> Event:
    data = document["data"]
    previous_status = data["previous_status"]
    _text(data["source"]["type"])  # the form without personal data needs it, too late to reject the message
    return Event(
        partition=int(document["partition"]),
        seq=int(document["sequence"]),
        order_id=_text(data["order_id"]),
        merchant_id=_text(data["merchant_id"]),
        version=int(data["version"]),
        status=_text(data["status"]),
        active=bool(data["active"]),
        previous_status=None if previous_status is None else _text(previous_status),
        previous_active=previous_status is not None and workflow.is_active(previous_status),
        # An order-state of the release before does not send them.
        overdue=bool(data.get("overdue")),
        previous_overdue=bool(data.get("previous_overdue")),
        erases=document.get("type") == "order.customer_erased",
        full=orjson.dumps(document),
    )


def _list(value: object) -> list[CloudEvent]:
    if not isinstance(value, list):
        raise TypeError(f"list expected, not {type(value).__name__}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text expected, not {type(value).__name__}")
    return value


@dataclass(frozen=True, slots=True)
class PublishRange:
    """Publish the events `start` to `stop` - 1 of the batch (indices)."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class FetchRange:
    """Read the missed events `first` to `last` (sequence numbers) from the log and publish them."""

    first: int
    last: int


def plan_batch(published: int, seqs: Sequence[int]) -> list[PublishRange | FetchRange]:
    """Plans a received batch of one partition, so that each event is published once and in order.

    `published` is the newest sequence number that was published. After 4, the batch 4, 5, 8 gives
    [PublishRange(1, 2), FetchRange(6, 7), PublishRange(2, 3)]: 4 is a repeat, and 6 and 7 are missing.
    """
    steps: list[PublishRange | FetchRange] = []
    for index, seq in enumerate(seqs):
        if seq <= published:
            continue
        if seq > published + 1:
            steps.append(FetchRange(published + 1, seq - 1))
        previous = steps[-1] if steps else None
        if isinstance(previous, PublishRange) and previous.stop == index:
            steps[-1] = PublishRange(previous.start, index + 1)
        else:
            steps.append(PublishRange(index, index + 1))
        published = seq
    return steps


def lagging_partitions(seqs: Sequence[int], target: Sequence[int]) -> list[int]:
    """The partitions in which `seqs` is behind `target`. Either may be from before some were added."""
    pairs = zip_longest(seqs, target, fillvalue=0)
    return [partition for partition, (seq, last) in enumerate(pairs) if seq < last]


def has_reached(seqs: Sequence[int], target: Sequence[int]) -> bool:
    """True if `seqs` is at or beyond `target` in every partition."""
    return not lagging_partitions(seqs, target)
