"""What an owner of one partition decides and stores, without a database: for the rules of held updates."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from builders import TIME
from tracking.upkeep.checker import Records, find_faults
from tracking_order_state.domain.batch import decide_batch
from tracking_order_state.domain.decisions import Decisions, Known
from tracking_order_state.domain.holding import end_held
from tracking_order_state.domain.partition import NOTHING_PARKED, PartitionPosition
from tracking_shared.contracts.commands import AnyCommand
from tracking_shared.contracts.documents import (
    EventDocument,
    HeldDocument,
    OrderDocument,
    UpdateDocument,
    update_key,
)
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW, Workflow

HOLD_SECONDS = 3600
HOLDING = replace(DEFAULT_WORKFLOW, hold_early_seconds=HOLD_SECONDS)


class Shelf:
    """The records of partition 0, at its newest commit."""

    def __init__(self, workflow: Workflow = HOLDING) -> None:
        self.workflow = workflow
        self.orders: dict[str, OrderDocument] = {}
        self.events: dict[str, EventDocument] = {}
        self.refusals: dict[str, UpdateDocument] = {}
        self.held: dict[str, HeldDocument] = {}
        self.position = PartitionPosition(0, 0, 0, NOTHING_PARKED)
        self.time = TIME

    def known(self) -> Known:
        held: dict[str, list[HeldDocument]] = {}
        for one in self.held.values():
            held.setdefault(one["order_id"], []).append(one)
        waiting = Counter(one["sender_key"] for one in self.held.values() if "sender_key" in one)
        return Known(dict(self.orders), dict(self.events), dict(self.refusals), held=held, waiting=waiting)

    def send(self, *commands: AnyCommand) -> list[tuple[str, str | None]]:
        """Decides one batch. Returns outcome and problem of each; a repeat is marked by `again`."""
        decided = decide_batch(
            commands,
            self.known(),
            partition=0,
            seq=self.position.seq,
            time=self.time,
            workflow=self.workflow,
        )
        self._store(decided)
        return outcomes_of(decided)

    def pass_time(self, seconds: float = HOLD_SECONDS) -> list[tuple[str, str | None]]:
        """Lets time pass, and then decides what is over."""
        self.time += timedelta(seconds=seconds)
        return self.sweep(self.time)

    def sweep(self, now: datetime) -> list[tuple[str, str | None]]:
        decided = end_held(
            list(self.held), self.known(), self.position, now=now, time=self.time, workflow=self.workflow
        )
        self._store(decided)
        return outcomes_of(decided)

    def _store(self, decided: Decisions) -> None:
        for name in decided.unheld:
            del self.held[name]
        self.held |= decided.held
        self.orders |= decided.orders
        for event in decided.events:
            key = update_key(event["order_id"], event["update_id"])
            assert key not in self.events
            self.events[key] = event
        gone = decided.replaced & (
            self.events.keys()
            | {update_key(one["order_id"], one["update_id"]) for one in decided.held.values()}
        )
        for key in gone:
            self.refusals.pop(key, None)
        assert not {key for key in decided.refusals if key in self.refusals} - decided.replaced
        self.refusals |= decided.refusals
        self.position = decided.position_after(self.position)
        assert self.position.held == len(self.held)
        assert not self.events.keys() & self.refusals.keys()

    def steps(self, order_id: str = "o-1") -> list[str]:
        """The update ids of an order's events, in the order of its versions."""
        of_order = [event for event in self.events.values() if event["order_id"] == order_id]
        return [event["update_id"] for event in sorted(of_order, key=lambda event: event["version"])]

    def faults(self) -> list[str]:
        """What `tracking check` would say, of a log that is all in partition 0."""
        records = Records(
            orders=list(self.orders.values()),
            events=list(self.events.values()),
            updates=list(self.refusals.values()),
            partitions=[
                {
                    "_id": 0,
                    "seq": self.position.seq,
                    "commits": 0,
                    "worker": "",
                    "epoch": "",
                    "parked": [],
                    "held": self.position.held,
                }
            ],
        )
        return find_faults(records, workflow=self.workflow)


def outcomes_of(decided: Decisions) -> list[tuple[str, str | None]]:
    """Outcome and problem of each; `again` stands after that of a repeat."""
    found: Sequence = [one for one in decided.outcomes if one is not None]
    return [
        (one["outcome"] + " again" * one["replayed"], one["problem"]["slug"] if one["problem"] else None)
        for one in found
    ]
