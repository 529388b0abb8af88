"""What a client of the stream reads in its own token, without verifying it: that is for the server."""

import random
from time import time
from typing import Any

import jwt

REFRESH_SECONDS = 60.0
"""A token is refreshed so long before it expires, or in the last quarter of its life if that is shorter."""

MIN_REFRESH_SECONDS = 0.5
"""Between two requests for a fresh token, however short its life."""


def refresh_in(token: str, *, again: bool = False) -> float | None:
    """Seconds until a token should be replaced; None if it does not say when it expires. `again`: there was
    no other one just now.
    """
    claims = _claims(token)
    expires_at, issued_at = claims.get("exp"), claims.get("iat")
    if not isinstance(expires_at, int | float):
        return None
    left = expires_at - time()
    if isinstance(issued_at, int | float):  # which makes up for a clock that is wrong here
        life = expires_at - issued_at
        left = min(left, life) if left > 0 else life
    if left <= 0:
        return None
    if again:
        return max(MIN_REFRESH_SECONDS, left / 2)
    return max(MIN_REFRESH_SECONDS, left - min(REFRESH_SECONDS, left / 4) * random.uniform(0.5, 1.0))


_OF_ONE_TOKEN = frozenset(
    {"exp", "iat", "nbf", "jti", "auth_time", "nonce", "at_hash", "sid", "session_state"}
    | {"origin_jti", "event_id", "uti", "aio", "rh"}
)
"""Claims that issuers give each token anew, and that say nothing of what it is for."""


def entitlement(token: str) -> dict[str, Any]:
    """Whose token it is, and for what; tokens that agree in this are shown the same orders. Which claims say
    so, only the services know: all are compared that tokens of one login have in common.
    """
    return {name: value for name, value in _claims(token).items() if name not in _OF_ONE_TOKEN}


def _claims(token: str) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return {}
    return claims
