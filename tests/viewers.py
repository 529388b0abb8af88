"""Viewers: who watches orders, what each asked for, and what each is due, worked out here anew.

Nothing of the notifier or of the access policy is used: that they agree with this is what the tests show.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

from tracking_shared.contracts.documents import EventDocument

ACTIVE = ("created", "picked_up", "in_transit")
FINAL = ("delivered", "cancelled")
EVERY_STATUS = (*ACTIVE, *FINAL)

EVERYBODY = ("*",)

ROLES = {"merchant": 60, "customer": 25, "partner": 10, "operator": 5}
"""Of a hundred viewers. A customer's token names orders, a partner's names merchants and orders of theirs."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """One who watches."""

    name: str
    merchants: tuple[str, ...]
    """Of the token; `EVERYBODY` for an operator."""
    orders: tuple[str, ...] | None
    """Of the token; None where it is not narrowed to orders."""
    filter: Mapping[str, Any]

    @property
    def role(self) -> str:
        """One of `ROLES`."""
        return self.name.partition("-")[0]

    @property
    def claims(self) -> dict[str, Any]:
        """What the viewer's token says."""
        claims: dict[str, Any] = {"sub": self.name, "scope": "orders:read", "merchants": self.merchants}
        return claims if self.orders is None else claims | {"orders": self.orders}

    @property
    def is_shown_customers(self) -> bool:
        """Merchants and operators are; who follows single orders is not."""
        return self.orders is None and len(self.merchants) > 0

    def covers(self, order_id: str, merchant_id: str) -> bool:
        """Whether the token reaches this order, and the filter names it, whatever its status."""
        if self.orders is not None and order_id not in self.orders:
            return False
        of_all = self.merchants == EVERYBODY or (self.orders is not None and not self.merchants)
        if not of_all and merchant_id not in self.merchants:
            return False
        asked = self.filter
        return ("merchant_id" not in asked or merchant_id in asked["merchant_id"]) and (
            "order_id" not in asked or order_id in asked["order_id"]
        )

    def lists(self, status: str | None) -> bool:
        """Whether an order that is covered is in the viewer's list while it is in this status."""
        asked = self.filter
        if status is None or ("status" in asked and status not in asked["status"]):
            return False
        if "active" in asked:
            return bool(asked["active"]) is (status in ACTIVE)
        return "status" in asked or "order_id" in asked or status in ACTIVE

    def is_due(self, event: EventDocument) -> bool:
        """Whether the viewer must be shown this event: it is of an order in the list, or takes it out."""
        return self.covers(event["order_id"], event["merchant_id"]) and (
            self.lists(event["status"]) or self.lists(event["previous_status"])
        )


def random_viewers(number: int, merchant_of: Mapping[str, str], random: Random) -> list[Viewer]:
    """Viewers of orders that exist or will. `merchant_of`: merchant by order id."""
    draw = _Draw(merchant_of, random)
    return [draw.viewer() for _ in range(number)]


class _Draw:
    def __init__(self, merchant_of: Mapping[str, str], random: Random) -> None:
        self._random = random
        self._orders = list(merchant_of)
        self._merchants = sorted(set(merchant_of.values()))
        self._orders_of: dict[str, list[str]] = {merchant: [] for merchant in self._merchants}
        for order_id, merchant_id in merchant_of.items():
            self._orders_of[merchant_id].append(order_id)
        self._numbers = count()

    def viewer(self) -> Viewer:
        role = self._random.choices(tuple(ROLES), tuple(ROLES.values()))[0]
        name = f"{role}-{next(self._numbers)}"
        fixed: dict[str, tuple[str, ...]] = {"customer": (), "operator": EVERYBODY}
        merchants = fixed[role] if role in fixed else self._some(self._merchants, 3)
        orders = None
        if role in ("customer", "partner"):
            orders = self._some(self._near(merchants), 4)
        return Viewer(name, merchants, orders, self._state() | self._names(merchants, orders))

    def _state(self) -> dict[str, Any]:
        statuses = list(self._some(EVERY_STATUS, 3))
        active = self._random.random() < 0.5
        filters: tuple[dict[str, Any], ...] = (
            {},
            {"active": active},
            {"status": statuses},
            {"status": statuses, "active": active},
        )
        return self._random.choices(filters, (40, 30, 20, 10))[0]

    def _names(self, merchants: Sequence[str], orders: Sequence[str] | None) -> dict[str, Any]:
        """Names of the viewer's own and, one in a while, of strangers."""
        near = orders or self._near(merchants)
        order_ids = [*self._some(near, 5), self._random.choice(self._orders)]
        mine = self._merchants if merchants in ((), EVERYBODY) else merchants
        merchant_ids = [*self._some(mine, 2), self._random.choice(self._merchants)]
        filters: tuple[dict[str, Any], ...] = (
            {},
            {"merchant_id": merchant_ids},
            {"order_id": order_ids},
            {"merchant_id": merchant_ids, "order_id": order_ids},
        )
        return self._random.choices(filters, (60, 20, 15, 5))[0]

    def _near(self, merchants: Sequence[str]) -> Sequence[str]:
        if merchants in ((), EVERYBODY):
            return self._orders
        return [order_id for merchant in merchants for order_id in self._orders_of[merchant]]

    def _some(self, values: Sequence[str], most: int) -> tuple[str, ...]:
        return tuple(self._random.sample(values, min(len(values), self._random.randint(1, most))))
