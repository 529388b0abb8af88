"""The one access policy, asked by every service: rights to write, to read, and to see personal data. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tracking_shared.contracts.identifiers import Identifier, Subject

MAX_GRANTED = 1000
"""Merchants or orders that one token may name."""


SourceType = Literal["driver", "system", "operator", "customer"]


class Grant(BaseModel):
    """The orders that a token reaches. It travels with a command, because only order-state knows
    the merchant of an existing order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    merchants: Annotated[frozenset[str], Field(max_length=MAX_GRANTED)] = frozenset()
    orders: Annotated[frozenset[Identifier], Field(max_length=MAX_GRANTED)] | None = None

    @property
    def every_merchant(self) -> bool:
        """True if the grant names all merchants."""
        return "*" in self.merchants


class Principal(BaseModel):
    """A verified caller."""

    model_config = ConfigDict(frozen=True)

    subject: Subject
    source_type: SourceType
    scopes: frozenset[str]
    grant: Grant
    expires_at: float
    """Seconds since the epoch; entitlement ends then."""

    token_id: str | None = None
    """`jti` of the token, by which it can be revoked."""

    issued_at: float | None = None
    """`iat` of the token, seconds since the epoch: a subject's tokens are revoked by it."""


def may_write(principal: Principal) -> bool:
    """True if the caller may send commands at all."""
    return not principal.scopes.isdisjoint(("orders:write", "orders:admin"))


def may_correct(principal: Principal) -> bool:
    """True if the caller may correct the status of orders that it reaches."""
    return not principal.scopes.isdisjoint(("orders:correct", "orders:admin"))


def may_read(principal: Principal) -> bool:
    """True if the caller may read at all."""
    return not principal.scopes.isdisjoint(("orders:read", "orders:admin"))


def may_ask_for_outcomes(principal: Principal) -> bool:
    """True if the caller may ask for outcomes of updates; `sees_outcome` says of which ones."""
    return may_read(principal) or may_write(principal) or may_correct(principal)


def may_administer(principal: Principal) -> bool:
    """True if the caller is an operator of the whole installation."""
    return "orders:admin" in principal.scopes and reaches_all(principal.grant)


def may_manage_webhooks(principal: Principal) -> bool:
    """True if the caller may register webhooks, and manage those that its grant `covers`."""
    by_scope = "webhooks:manage" in principal.scopes and bool(principal.grant.merchants)
    return by_scope or may_administer(principal)


def covers(grant: Grant, other: Grant) -> bool:
    """True if every order that exists for the holder of `other` exists for the holder of this one."""
    if grant.orders is not None and (other.orders is None or not other.orders <= grant.orders):
        return False
    if grant.every_merchant or _is_by_orders_alone(grant):
        return True
    return not _is_by_orders_alone(other) and other.merchants <= grant.merchants


def _is_by_orders_alone(grant: Grant) -> bool:
    return grant.orders is not None and not grant.merchants


def narrowed(grant: Grant, merchants: Collection[str] | None, orders: Collection[str] | None) -> Grant:
    """The grant for these merchants and orders alone (None: all of it), as `readable_orders` has it."""
    readable = readable_orders(grant, merchants, orders)
    named = grant.merchants if readable.merchants is None else readable.merchants
    return Grant(merchants=named, orders=grant.orders)


def reaches(grant: Grant, order_id: str, merchant_id: str) -> bool:
    """True if the order exists for the holder of this grant.

    A list of orders narrows; with merchants beside it the order must satisfy both.
    """
    if grant.orders is not None:
        if order_id not in grant.orders:
            return False
        return not grant.merchants or grant.every_merchant or merchant_id in grant.merchants
    return grant.every_merchant or merchant_id in grant.merchants


@dataclass(frozen=True, slots=True)
class ReadableOrders:
    """Bounds of the orders that a caller may read and asked for: those of `merchants` that are among
    `orders`. None stands for no bound.
    """

    merchants: frozenset[str] | None
    orders: frozenset[str] | None

    def only(self, orders: Collection[str]) -> "ReadableOrders":
        """The same within these orders."""
        return ReadableOrders(self.merchants, _common(self.orders, orders))

    def conditions(self, order_field: str) -> dict[str, Any]:
        """The bounds as conditions of a database query, so that a limit counts only what the caller may see.
        `order_field` holds the order id.
        """
        conditions = {}
        if self.orders is not None:
            conditions[order_field] = {"$in": sorted(self.orders)}
        if self.merchants is not None:
            conditions["merchant_id"] = {"$in": sorted(self.merchants)}
        return conditions


def readable_orders(
    grant: Grant, merchants: Collection[str] | None = None, orders: Collection[str] | None = None
) -> ReadableOrders:
    """The orders of a grant, within the `merchants` and `orders` that were asked for (None: all). They are
    exactly those for which `reaches` is true.
    """
    by_orders_alone = grant.orders is not None and not grant.merchants
    granted = None if grant.every_merchant or by_orders_alone else grant.merchants
    return ReadableOrders(_common(granted, merchants), _common(grant.orders, orders))


def _common(granted: frozenset[str] | None, asked: Collection[str] | None) -> frozenset[str] | None:
    if asked is None:
        return granted
    return frozenset(asked) if granted is None else granted.intersection(asked)


def reaches_all(grant: Grant) -> bool:
    """True if every order exists for the holder, also those that are not there yet."""
    return grant.every_merchant and grant.orders is None


def may_create_for(grant: Grant, order_id: str, merchant_id: str) -> bool:
    """True if the holder may create this order for this merchant: its merchant must be granted."""
    return bool(grant.merchants) and reaches(grant, order_id, merchant_id)


def sees_customer(grant: Grant) -> bool:
    """True if the holder is shown personal data: the name and contact of the customer, and who reported
    each change. Merchants and operators are; whoever holds a link to single orders is not, for links are
    passed on.
    """
    return bool(grant.merchants) and grant.orders is None


def sees_outcome(principal: Principal, *, source_id: str, order_id: str, merchant_id: str | None) -> bool:
    """True if the outcome of an update exists for the caller, who may ask: for its sender, and for those who
    may read and reach its order. `merchant_id` is None where there was no order.
    """
    if source_id == principal.subject:
        return True
    if not may_read(principal):
        return False
    if merchant_id is None:
        return reaches_all(principal.grant)
    return reaches(principal.grant, order_id, merchant_id)
