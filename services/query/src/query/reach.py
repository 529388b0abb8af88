"""Which orders a caller's request can reach: the grant of the token, narrowed by the request. Pure.

It becomes part of the database query itself, so that a limit counts only what the caller may see.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from shared.access import Grant


@dataclass(frozen=True, slots=True)
class Reach:
    """None stands for no bound."""

    merchants: frozenset[str] | None
    orders: frozenset[str] | None

    def conditions(self, order_field: str) -> dict[str, Any]:
        """As conditions of a database query; `order_field` holds the order id."""
        conditions = {}
        if self.orders is not None:
            conditions[order_field] = {"$in": sorted(self.orders)}
        if self.merchants is not None:
            conditions["merchant_id"] = {"$in": sorted(self.merchants)}
        return conditions


def only(reach: Reach, orders: Collection[str]) -> Reach:
    """The orders of these that are in reach."""
    return Reach(reach.merchants, frozenset(orders) if reach.orders is None else reach.orders & set(orders))


def narrow(grant: Grant, merchants: Collection[str], orders: Collection[str]) -> Reach:
    """The reach of `grant` within the asked `merchants` and `orders`; an empty collection asks for all.

    It holds exactly the orders for which `shared.access.reaches` is true.
    """
    by_orders_alone = grant.orders is not None and not grant.merchants
    granted = None if grant.every_merchant or by_orders_alone else grant.merchants
    return Reach(_within(granted, merchants), _within(grant.orders, orders))


def _within(granted: frozenset[str] | None, asked: Collection[str]) -> frozenset[str] | None:
    if not asked:
        return granted
    return frozenset(asked) if granted is None else granted.intersection(asked)
