"""The judge of a stream: what a viewer was sent against what it was due, from the recorded history. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.documents import EventDocument
from viewers import Viewer

KINDS = ("lost", "repeated", "reordered", "wrongly delivered")

History = Mapping[str, Sequence[EventDocument]]
"""By order id; of each order its versions 1, 2, 3 …"""


class Sighting(NamedTuple):
    """An order in one of its versions, as a viewer was sent it."""

    order_id: str
    version: int
    with_customer: bool


@dataclass(slots=True)
class Record:
    """What one viewer was sent, across all its connections."""

    snapshot: list[Sighting] = field(default_factory=list)
    """What it began with."""
    live: Position | None = None
    """Where the snapshot was through; None if that did not come about."""
    events: list[Sighting] = field(default_factory=list)
    """All since, in the order of their arrival."""


class Fault(NamedTuple):
    """What should not be."""

    kind: str
    """One of `KINDS`."""
    viewer: str
    order_id: str
    version: int


def history_of(events: Iterable[EventDocument]) -> History:
    """All events of an installation, which the checker has found to be without holes."""
    history: dict[str, list[EventDocument]] = defaultdict(list)
    for event in sorted(events, key=lambda event: event["version"]):
        history[event["order_id"]].append(event)
    return dict(history)


def faults_of(viewer: Viewer, record: Record, history: History) -> Iterator[Fault]:
    """Every event, and every order of the snapshot, that came wrongly or did not come."""
    for kind, order_id, version in (
        *_snapshot_faults(viewer, record, history),
        *_arrival_faults(viewer, record, history),
        *_losses(viewer, record, history),
    ):
        yield Fault(kind, viewer.name, order_id, version)


def orders_due(viewer: Viewer, history: History) -> dict[str, int]:
    """The orders in the viewer's list at the end of the history, with their versions."""
    newest = [events[-1] for events in history.values()]
    return {
        event["order_id"]: event["version"]
        for event in newest
        if viewer.covers(event["order_id"], event["merchant_id"]) and viewer.lists(event["status"])
    }


_Found = tuple[str, str, int]


def _snapshot_faults(viewer: Viewer, record: Record, history: History) -> Iterator[_Found]:
    for sighting in record.snapshot:
        event = _event(sighting, history)
        is_due = event is not None and viewer.is_due(event) and viewer.lists(event["status"])
        if not is_due or sighting.with_customer != viewer.is_shown_customers:
            yield "wrongly delivered", sighting.order_id, sighting.version


def _arrival_faults(viewer: Viewer, record: Record, history: History) -> Iterator[_Found]:
    newest = {sighting.order_id: sighting.version for sighting in record.snapshot}
    covered = dict(newest)
    seen: set[tuple[str, int]] = set()
    for sighting in record.events:
        order_id, version, with_customer = sighting
        event = _event(sighting, history)
        if event is None or not viewer.is_due(event) or with_customer != viewer.is_shown_customers:
            yield "wrongly delivered", order_id, version
        elif version <= covered.get(order_id, 0) or (order_id, version) in seen:
            yield "repeated", order_id, version
        elif version < newest.get(order_id, 0):
            yield "reordered", order_id, version
        seen.add((order_id, version))
        newest[order_id] = max(version, newest.get(order_id, 0))


def _losses(viewer: Viewer, record: Record, history: History) -> Iterator[_Found]:
    held = {sighting.order_id: sighting.version for sighting in record.snapshot}
    came: dict[str, set[int]] = defaultdict(set)
    for sighting in record.events:
        came[sighting.order_id].add(sighting.version)
    for order_id, events in history.items():
        if not viewer.covers(order_id, events[0]["merchant_id"]):
            continue
        due = [event["version"] for event in events if viewer.is_due(event)]
        seen = came.get(order_id, set()).intersection(due)
        after = held.get(order_id)
        if after is None:
            after = min([_unlisted_until(viewer, events, record.live), *seen])
        for version in due:
            if version > after and version not in seen:
                yield "lost", order_id, version


def _unlisted_until(viewer: Viewer, events: Sequence[EventDocument], live: Position | None) -> int:
    """The last version with which the order may have been left out of the snapshot; 0: it did not exist.

    When exactly a snapshot was read is not known. It was before the client was told that it is live, and
    what happened shortly before that may have come as an event too.
    """
    if live is None:
        return 0
    return max(
        (
            event["version"]
            for event in events
            if event["seq"] <= live.seqs[event["partition"]] and not viewer.lists(event["status"])
        ),
        default=0,
    )


def _event(sighting: Sighting, history: History) -> EventDocument | None:
    events = history.get(sighting.order_id, ())
    return events[sighting.version - 1] if 0 < sighting.version <= len(events) else None
