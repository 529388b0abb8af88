"""Tokens of the fake server, and what they allow. Pure apart from the clock."""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from time import time
from typing import Any

from tracking_client.fake.problems import Refusal
from tracking_client.json_text import decode, encode


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of a valid token."""

    subject: str
    source_type: str
    scopes: frozenset[str]
    merchants: frozenset[str]
    orders: frozenset[str] | None
    expires_at: float
    """Unix time."""

    @property
    def sees_customer(self) -> bool:
        """True if the caller may see names and contacts."""
        return bool(self.merchants) and self.orders is None

    def require(self, *scopes: str) -> None:
        """Raises `Refusal` unless the token has one of these scopes or `orders:admin`."""
        if self.scopes.isdisjoint((*scopes, "orders:admin")):
            raise Refusal("forbidden", f"The token does not have the scope {scopes[0]}.")

    def reaches(self, order_id: str, merchant_id: str) -> bool:
        """True if the order exists for the caller."""
        if self.orders is not None:
            if order_id not in self.orders:
                return False
            return not self.merchants or not self.merchants.isdisjoint(("*", merchant_id))
        return not self.merchants.isdisjoint(("*", merchant_id))

    def may_create_for(self, order_id: str, merchant_id: str) -> bool:
        """True if the caller may create this order for this merchant."""
        return bool(self.merchants) and self.reaches(order_id, merchant_id)


def make_token(secret: str, claims: Mapping[str, Any]) -> str:
    """A JWT signed with HS256."""
    signed = f"{_base64(encode({'alg': 'HS256', 'typ': 'JWT'}))}.{_base64(encode(dict(claims)))}"
    return f"{signed}.{_base64(_signature(secret, signed))}"


def caller_of(secret: str, token: str) -> Caller:
    """The caller that a token names.

    Raises:
        Refusal: `unauthenticated`.
    """
    signed, _, signature = token.rpartition(".")
    try:
        if not hmac.compare_digest(_bytes(signature), _signature(secret, signed)):
            raise Refusal("unauthenticated", "The token is not valid.")
        claims = decode(_bytes(signed.split(".")[1]))
        orders = claims.get("orders")
        caller = Caller(
            subject=claims["sub"],
            source_type=claims.get("source_type", "system"),
            scopes=frozenset(claims.get("scope", "").split()),
            merchants=frozenset(claims.get("merchants", ())),
            orders=None if orders is None else frozenset(orders),
            expires_at=float(claims["exp"]),
        )
    except (ValueError, IndexError, KeyError, TypeError, AttributeError):
        raise Refusal("unauthenticated", "The token is not valid.") from None
    if caller.expires_at <= time():
        raise Refusal("unauthenticated", "exp: the token has expired.")
    return caller


def _signature(secret: str, signed: str) -> bytes:
    return hmac.digest(secret.encode(), signed.encode(), hashlib.sha256)


def _base64(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
