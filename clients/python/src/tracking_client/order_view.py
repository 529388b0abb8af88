"""The orders of a filter, kept current by the messages of a stream. Pure: it opens no connection.

`OrderView` in clients/js/tracking-live.js is the same in JavaScript; tests/conformance compares the two.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from tracking_client.errors import TrackingClientError

Document = dict[str, Any]

EVENT_MEMBERS = frozenset(
    {
        *("order_id", "merchant_id", "version", "status", "previous_status", "active", "allowed_next"),
        *("created_at", "recorded_at", "source", "order_metadata"),
    }
)
"""The members that an event must have."""

ORDER_MEMBERS = frozenset({"order_id", "version", "status", "active"})
"""The members that an order of a snapshot must have."""


class GarbledMessage(TrackingClientError):
    """A message of the server violates the protocol."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of `orders` was replaced. The changes in between have no events."""

    reason: str | None
    """The reason of a resync; None: the client requested the snapshot."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Events of an order are missing, which is a fault of the server. The later event was applied."""

    order_id: str
    after: int | None
    """The version before the gap; None: the order was missing in `orders`."""
    version: int
    """The version of the received event."""


@dataclass(frozen=True, slots=True)
class ProblemReceived:
    """The server sent a problem document (RFC 9457): it refused a message, or is about to close."""

    problem: Document


class OrderView:
    """The orders that match a filter, and no others.

    `after` is an earlier cursor. With it, or with `snapshot=False`, `orders` contains only orders with events
    since then. `notify` is called with everything that is not an event.
    """

    def __init__(
        self,
        filter: Document,
        notify: Callable[[Snapshot | Gap | ProblemReceived], None],
        *,
        after: str | None = None,
        snapshot: bool = True,
    ) -> None:
        self.orders: dict[str, Document] = {}
        """By order id, in the format of the HTTP API."""
        self.cursor = after
        """The position to resume after; None before the first one."""
        self.gaps = 0
        """The number of gaps so far."""
        self.from_snapshot = False
        """True if `orders` began with a snapshot, so that it contains all matching orders."""
        self._filter = filter
        self._notify = notify
        self._snapshot = snapshot
        self._arriving: dict[str, Document] | None = None  # pages of an incomplete snapshot
        self._resync_reason: str | None = None
        self._settled = False  # past the events that overlap the snapshot: an absent order does not match
        self._activity: dict[str, bool] = {}  # of the statuses seen; a workflow has a handful

    def request(self) -> Document:
        """The members of a `subscribe` message for the filter and the position."""
        self._arriving = None  # an incomplete snapshot is discarded
        self._overlapping = False  # `live` ends it only on the same connection
        if self.cursor is not None:
            return {"filter": self._filter, "after": self.cursor}
        return {"filter": self._filter, "snapshot": self._snapshot}

    def forget(self, reason: str | None = None) -> None:
        """Discards the position, so that the next request asks for a snapshot."""
        self.cursor, self._snapshot, self._settled = None, True, False
        self._resync_reason = reason

    def take(self, message: Document) -> list[Document]:
        """Applies one message of the server and returns its new events in order.

        Raises:
            GarbledMessage: the message is invalid, and was not applied.
        """
        match message.get("type"):
            case "snapshot":
                self._take_page(_documents(message, "orders"), more=_member(message, "more", bool))
            case "events":
                return self._take_events(_documents(message, "events"), _member(message, "cursor", str))
            case "live":
                self._expect_no_page()
                self.cursor = _member(message, "cursor", str)
                self._settled = self._settled or self._overlapping
            case "resync":
                self.forget(_member(message, "reason", str))
                self._arriving = {}
            case "problem":
                self._notify(ProblemReceived(_member(message, "problem", dict)))
            case str():
                pass  # from a later version of the protocol
            case _:
                raise GarbledMessage("a message without a type")
        return []

    def _take_page(self, orders: list[Document], *, more: bool) -> None:
        for order in orders:
            _check(order, ORDER_MEMBERS)
        if self._arriving is None:
            # Until it is complete, a reconnect must request another: a part and a cursor would lose the rest.
            self.forget(self._resync_reason)
        arriving = self._arriving or {}
        for order in orders:
            arriving[order["order_id"]] = order
            self._activity[order["status"]] = order["active"]
        self._arriving = arriving
        if not more:
            self.orders, self._arriving = arriving, None
            self.from_snapshot = self._overlapping = True
            reason, self._resync_reason = self._resync_reason, None
            self._notify(Snapshot(reason))

    def _take_events(self, events: list[Document], cursor: str) -> list[Document]:
        self._expect_no_page()
        for event in events:
            _check(_member(event, "data", dict), EVENT_MEMBERS)
        new = [event for event in events if self._apply(event)]
        self.cursor = cursor
        return new

    def _expect_no_page(self) -> None:
        if self._arriving is not None:
            raise GarbledMessage("a snapshot ended without its last page")

    def _apply(self, event: Document) -> bool:
        data = event["data"]
        known = self.orders.get(data["order_id"])
        if known is not None and data["version"] <= known["version"]:
            return False  # the snapshot already had it
        if self._has_gap(known, data):
            self.gaps += 1
            self._notify(Gap(data["order_id"], known["version"] if known else None, data["version"]))
        self._activity[data["status"]] = data["active"]
        if self._matches(data["status"], active=data["active"], overdue=data.get("overdue", False)):
            self.orders[data["order_id"]] = order_after(event)
        else:
            self.orders.pop(data["order_id"], None)
        return True

    def _has_gap(self, known: Document | None, data: Document) -> bool:
        if known is not None:
            return bool(data["version"] != known["version"] + 1)
        previous = data["previous_status"]
        if not self._settled or previous is None:
            return False
        return self._matches(
            previous, active=self._activity.get(previous), overdue=data.get("previous_overdue", False)
        )

    def _matches(self, status: str, *, active: bool | None, overdue: bool) -> bool:
        if "status" in self._filter and status not in self._filter["status"]:
            return False
        if self._filter.get("overdue", overdue) not in (None, overdue):
            return False
        required = self._filter.get("active")
        if required is None and not {"status", "order_id"} & self._filter.keys():
            required = True
        return required is None or bool(required) is active


def order_after(event: Document) -> Document:
    """The order after this event, in the format of the HTTP API."""
    data = event["data"]
    order = {name: data[name] for name in ("order_id", "merchant_id")}
    order["reference"] = data.get("reference")  # an earlier release does not send it
    # None: erased. A token that may not see it gets none.
    order |= {name: data[name] for name in ("customer", "erased_at") if name in data}
    order |= {name: data[name] for name in ("status", "version", "active", "created_at")}
    return order | {
        "updated_at": data["recorded_at"],
        # An earlier release of the server does not send them.
        "due_at": data.get("due_at"),
        "eta": data.get("eta"),
        "overdue": data.get("overdue", False),
        "source": data["source"],
        "metadata": data["order_metadata"],
        "allowed_next": data["allowed_next"],
    }


def _member(document: Document, name: str, kind: type) -> Any:
    value = document.get(name)
    if not isinstance(value, kind):
        raise GarbledMessage(f"{name} is not a {kind.__name__}")
    return value


def _documents(message: Document, name: str) -> list[Document]:
    values: list[Document] = _member(message, name, list)
    if not all(isinstance(value, dict) for value in values):
        raise GarbledMessage(f"{name} holds what is no object")
    return values


def _check(document: Document, members: Collection[str]) -> None:
    missing = members - document.keys()
    if missing:
        raise GarbledMessage(f"without {', '.join(sorted(missing))}")
    version = document["version"]
    if not isinstance(version, int) or not isinstance(document["order_id"], str):
        raise GarbledMessage("an order id or a version of the wrong kind")
