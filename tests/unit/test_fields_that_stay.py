"""Whatever happens to an order, the fields that nobody changes stay: each event carries them on."""

from datetime import timedelta
from typing import Any, get_type_hints

import pytest

from builders import TIME, checkpoint_command, correct_command, update_command
from tracking_order_state.domain.lifecycle import decide
from tracking_order_state.domain.overdue import mark_overdue
from tracking_order_state.domain.partition import NOTHING_PARKED, PartitionPosition, Slot
from tracking_shared.contracts.documents import EventDocument, OrderDocument, project
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

CHANGES = {
    *("status", "active", "version", "updated_at", "source", "metadata", "closing"),
    *("due_at", "eta", "overdue", "announced_due_at", "due_key"),
}
"""The fields that a change of an order may change."""

ORDER: dict[str, Any] = {
    "_id": "o-1",
    "merchant_id": "acme",
    "reference": "WH/OUT/00012",
    "customer": {"name": "Ada Example", "contact_ref": "crm:17"},
    "status": "created",
    "active": True,
    "version": 1,
    "created_at": TIME - timedelta(days=2),
    "updated_at": TIME - timedelta(days=1),
    "source": {"type": "system", "id": "shop"},
    "metadata": {},
    "partition": 0,
    "due_at": TIME,
    "due_key": 1,
    "erased_at": TIME - timedelta(hours=1),
}
"""An order with a value for each field that no change sets."""


def event_of(command: Any) -> EventDocument:
    """What the command makes of the order."""
    if command is None:
        position = PartitionPosition(0, 0, 1, NOTHING_PARKED, TIME)
        [event] = mark_overdue([OrderDocument(**ORDER)], position, now=TIME, time=TIME).events
        return event
    event = decide(OrderDocument(**ORDER), command, Slot(0, 1, TIME), DEFAULT_WORKFLOW)
    assert isinstance(event, dict), event
    return event


@pytest.mark.parametrize(
    "command",
    [update_command(), checkpoint_command(), correct_command(), None],
    ids=["step", "checkpoint", "correction", "overdue"],
)
def test_each_event_carries_them_on(command: Any) -> None:
    after: Any = project(event_of(command))
    stay = ORDER.keys() - CHANGES
    assert {name: after.get(name) for name in stay} == {name: ORDER[name] for name in stay}


def test_each_field_is_tried_or_changes() -> None:
    assert get_type_hints(OrderDocument).keys() <= ORDER.keys() | CHANGES
