"""The policy once more, in the plainest words, for tests to compare with: from the claims of a token alone,
without a line of the code that the services run.
"""

from collections.abc import Mapping
from typing import Any

Claims = Mapping[str, Any]


def is_operator(claims: Claims) -> bool:
    return "orders:admin" in claims.get("scope", "").split()


def may(claims: Claims, scope: str) -> bool:
    return scope in claims.get("scope", "").split() or is_operator(claims)


def owns(claims: Claims, order_id: str, merchant_id: str) -> bool:
    """Whether there is such an order, as far as this caller is concerned."""
    merchants = ["*"] if is_operator(claims) else claims.get("merchants", [])
    listed = claims.get("orders")
    of_merchant = "*" in merchants or merchant_id in merchants
    if listed is None:
        return of_merchant
    if merchants == []:
        return order_id in listed
    return order_id in listed and of_merchant


def is_shown_people(claims: Claims) -> bool:
    """Whether names, contacts and reporters are shown."""
    if claims.get("orders") is not None:
        return False
    return is_operator(claims) or claims.get("merchants", []) != []
