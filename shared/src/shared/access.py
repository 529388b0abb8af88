"""The one access policy: who may write, read and see what. Pure; every service asks it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.identifiers import Identifier

MAX_GRANTED = 1000
"""Merchants or orders that one token may name."""


SourceType = Literal["driver", "system", "operator", "customer"]


class Grant(BaseModel):
    """Which orders a token reaches. It travels with a command, because only order-state knows
    the merchant of an existing order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    merchants: Annotated[frozenset[str], Field(max_length=MAX_GRANTED)] = frozenset()
    orders: Annotated[frozenset[Identifier], Field(max_length=MAX_GRANTED)] | None = None

    @property
    def every_merchant(self) -> bool:
        """Whether the grant names all merchants."""
        return "*" in self.merchants


class Principal(BaseModel):
    """A verified caller."""

    model_config = ConfigDict(frozen=True)

    subject: Identifier
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
    """Whether the caller may send commands at all."""
    return not principal.scopes.isdisjoint(("orders:write", "orders:admin"))


def may_read(principal: Principal) -> bool:
    """Whether the caller may read at all."""
    return not principal.scopes.isdisjoint(("orders:read", "orders:admin"))


def reaches(grant: Grant, order_id: str, merchant_id: str) -> bool:
    """Whether the order exists for the holder of this grant.

    A list of orders narrows; with merchants beside it the order must satisfy both.
    """
    if grant.orders is not None:
        if order_id not in grant.orders:
            return False
        return not grant.merchants or grant.every_merchant or merchant_id in grant.merchants
    return grant.every_merchant or merchant_id in grant.merchants


def may_create_for(grant: Grant, order_id: str, merchant_id: str) -> bool:
    """Whether the holder may create this order for this merchant: its merchant must be granted."""
    return bool(grant.merchants) and reaches(grant, order_id, merchant_id)


def sees_customer(grant: Grant) -> bool:
    """Whether the holder is shown names and contacts: merchants and operators, not tracking links."""
    return bool(grant.merchants) and grant.orders is None
