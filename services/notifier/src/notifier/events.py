"""One event on its way to the clients: what decides who gets it, and its encoded forms."""

from dataclasses import dataclass, field

import orjson

from shared.documents import EventDocument
from shared.messages import CloudEvent
from shared.views import cloud_event, without_customer
from shared.workflow import Workflow


class UndecodableEvents(Exception):
    """The body of a message is not a batch of events."""


@dataclass(slots=True, eq=False)
class Event:
    """An event of the log. Encoded once per variant, however many clients get it."""

    partition: int
    seq: int
    order_id: str
    merchant_id: str
    version: int
    status: str
    active: bool
    previous_status: str | None
    previous_active: bool
    full: bytes
    """The CloudEvent with the customer."""
    _bare: bytes | None = field(default=None, repr=False)

    def encoded(self, *, with_customer: bool) -> bytes:
        """The CloudEvent as JSON, with or without personal data."""
        if with_customer:
            return self.full
        if self._bare is None:
            self._bare = orjson.dumps(without_customer(orjson.loads(self.full)))
        return self._bare


def event_of(document: EventDocument, workflow: Workflow) -> Event:
    """The event that a document of the log holds."""
    return _event(cloud_event(document, workflow), workflow)


def decode_events(body: bytes, workflow: Workflow, partitions: int) -> list[Event]:
    """The events of one message of the broker.

    Raises:
        UndecodableEvents: not a JSON array of our CloudEvents of existing partitions.
    """
    try:
        events = [_event(document, workflow) for document in _list(orjson.loads(body))]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UndecodableEvents(f"{len(body)} bytes: {error!r}") from None
    for event in events:
        if not 0 <= event.partition < partitions:
            raise UndecodableEvents(f"partition {event.partition} of {partitions}")
    return events


def _event(document: CloudEvent, workflow: Workflow) -> Event:
    data = document["data"]
    previous_status = data["previous_status"]
    _text(data["source"]["type"])  # the form without personal data needs it, when it is too late to refuse
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
