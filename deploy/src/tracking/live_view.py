"""What the messages of a stream amount to: the orders of a filter, kept current. Pure: no connection here.

`OrderView` in web/tracking-live.js is the same, name by name; tests/conformance holds the two together.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]

EVENT_MEMBERS = frozenset(
    {
        *("order_id", "merchant_id", "version", "status", "previous_status", "active", "allowed_next"),
        *("created_at", "recorded_at", "source", "order_metadata"),
    }
)
"""What an event must tell to make an order of it."""

ORDER_MEMBERS = frozenset({"order_id", "version", "status", "active"})


class GarbledMessage(Exception):
    """The server sent what is no message of the protocol, or one where it cannot stand."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`orders` was replaced as a whole. What lies between has no events."""

    reason: str | None
    """Why the server began anew; None: a snapshot was asked for."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Events of an order are missing, which is a fault of the server. What came instead was applied."""

    order_id: str
    after: int | None
    """The version before the gap; None: the order was not held, though it should have been."""
    version: int
    """The one that came."""


@dataclass(frozen=True, slots=True)
class Told:
    """The server told of a problem (an RFC 9457 document): a message was refused, or the end is near."""

    problem: Document


class OrderView:
    """The orders that match a filter. It holds these and nothing else, whatever comes along.

    `after` is a cursor of earlier. With it, or with `snapshot=False`, `orders` holds only what events
    brought. `tell` is called with what is no event.
    """

    def __init__(
        self,
        filter: Document,
        tell: Callable[[Snapshot | Gap | Told], None],
        *,
        after: str | None = None,
        snapshot: bool = True,
    ) -> None:
        self.orders: dict[str, Document] = {}
        """By order id, as REST shows them."""
        self.cursor = after
        """Where to go on after a reconnect; None: nowhere."""
        self.gaps = 0
        """Found so far."""
        self.from_snapshot = False
        """Whether `orders` began as a snapshot, so that it holds all that match."""
        self._filter = filter
        self._tell = tell
        self._snapshot = snapshot
        self._arriving: dict[str, Document] | None = None  # pages of a snapshot that is not whole yet
        self._resync_reason: str | None = None
        self._settled = (
            False  # past what the snapshot overlaps with: an order that is not held does not match
        )
        self._activity: dict[str, bool] = {}  # of the statuses seen; a workflow has a handful

    def request(self) -> Document:
        """The members of a `subscribe` that say what is wanted, and from where."""
        self._arriving = None  # a snapshot that was cut off counts for nothing
        self._overlapping = False  # `live` tells nothing of the overlap on another connection
        if self.cursor is not None:
            return {"filter": self._filter, "after": self.cursor}
        return {"filter": self._filter, "snapshot": self._snapshot}

    def forget(self, reason: str | None = None) -> None:
        """What is held cannot be continued: the next request asks for a snapshot."""
        self.cursor, self._snapshot, self._settled = None, True, False
        self._resync_reason = reason

    def take(self, message: Document) -> list[Document]:
        """Applies one message of the server. Returns the events in it that are new, in their order.

        Raises:
            GarbledMessage: it is none; nothing of it was applied.
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
                self._tell(Told(_member(message, "problem", dict)))
            case str():
                pass  # of a later version of the protocol
            case _:
                raise GarbledMessage("a message without a type")
        return []

    def _take_page(self, orders: list[Document], *, more: bool) -> None:
        for order in orders:
            _check(order, ORDER_MEMBERS)
        if self._arriving is None:
            # Until it is whole, a reconnect must ask for another one: half of one and a cursor lose the rest.
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
            self._tell(Snapshot(reason))

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
            return False  # the snapshot was ahead
        if self._misses_something(known, data):
            self.gaps += 1
            self._tell(Gap(data["order_id"], known["version"] if known else None, data["version"]))
        self._activity[data["status"]] = data["active"]
        if self._matches(data["status"], active=data["active"]):
            self.orders[data["order_id"]] = order_after(event)
        else:
            self.orders.pop(data["order_id"], None)
        return True

    def _misses_something(self, known: Document | None, data: Document) -> bool:
        if known is not None:
            return bool(data["version"] != known["version"] + 1)
        previous = data["previous_status"]
        if not self._settled or previous is None:
            return False
        return self._matches(previous, active=self._activity.get(previous))

    def _matches(self, status: str, *, active: bool | None) -> bool:
        if "status" in self._filter and status not in self._filter["status"]:
            return False
        wanted = self._filter.get("active")
        if wanted is None and not {"status", "order_id"} & self._filter.keys():
            wanted = True
        return wanted is None or bool(wanted) is active


def order_after(event: Document) -> Document:
    """The order as REST shows it after this event."""
    data = event["data"]
    order = {name: data[name] for name in ("order_id", "merchant_id")}
    if "customer" in data:
        order["customer"] = data["customer"]
    order |= {name: data[name] for name in ("status", "version", "active", "created_at")}
    return order | {
        "updated_at": data["recorded_at"],
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
