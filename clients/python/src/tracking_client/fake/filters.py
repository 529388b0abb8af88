"""Filters of streams and lists. Pure."""

from typing import Any

from tracking_client.fake.problems import invalid
from tracking_client.fake.workflow import TRANSITIONS

Document = dict[str, Any]

_LISTS = ("merchant_id", "order_id", "status")
_FLAGS = ("active", "overdue")


def checked_filter(value: object) -> Document:
    """The members of a stream's filter that are given.

    Raises:
        Refusal: `validation-failed`.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid("/filter", "must be an object")
    given = {name: wanted for name, wanted in value.items() if wanted is not None}
    for name, wanted in given.items():
        if name in _LISTS:
            if not isinstance(wanted, list) or not all(isinstance(each, str) for each in wanted):
                raise invalid(f"/filter/{name}", "must be a list of texts")
        elif name not in _FLAGS:
            raise invalid(f"/filter/{name}", "is not a field that is known here")
        elif not isinstance(wanted, bool):
            raise invalid(f"/filter/{name}", "must be true or false")
    return given


def matches_order(wanted: Document, order: Document) -> bool:
    """True if a stream with this filter shows the order."""
    return _matches(wanted, order, order["status"], overdue=order["overdue"])


def matches_event(wanted: Document, data: Document) -> bool:
    """True if the order matches the filter after the event, or matched before it."""
    if _matches(wanted, data, data["status"], overdue=data["overdue"]):
        return True
    previous = data["previous_status"]
    return previous is not None and _matches(wanted, data, previous, overdue=data["previous_overdue"])


def _matches(wanted: Document, order: Document, status: str, *, overdue: bool) -> bool:
    values = {"merchant_id": order["merchant_id"], "order_id": order["order_id"], "status": status}
    if any(name in wanted and value not in wanted[name] for name, value in values.items()):
        return False
    if wanted.get("overdue", overdue) is not overdue:
        return False
    default = None if {"status", "order_id"} & wanted.keys() else True
    active = wanted.get("active", default)
    return active is None or active is bool(TRANSITIONS[status])
