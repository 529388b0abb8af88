"""The claims that a client of the stream reads in its own token. Only the server verifies it."""

import random
from base64 import urlsafe_b64decode
from time import time
from typing import Any

from tracking_client.json_text import decode

REFRESH_SECONDS = 60.0
"""A token is refreshed this long before it expires, or in the last quarter of its life if that is shorter."""

MIN_REFRESH_SECONDS = 0.5
"""The shortest time between two requests for a fresh token."""


def refresh_in(token: str, *, again: bool = False) -> float | None:
    """Seconds until a token should be replaced; None if it has no expiry or has expired.

    `again`: the last request returned no fresh token.
    """
    claims = _claims(token)
    expires_at, issued_at = claims.get("exp"), claims.get("iat")
    if not isinstance(expires_at, int | float):
        return None
    left = expires_at - time()
    if isinstance(issued_at, int | float):  # compensates for a wrong clock on this machine
        life = expires_at - issued_at
        left = min(left, life) if left > 0 else life
    if left <= 0:
        return None
    if again:
        return max(MIN_REFRESH_SECONDS, left / 2)
    return max(MIN_REFRESH_SECONDS, left - min(REFRESH_SECONDS, left / 4) * random.uniform(0.5, 1.0))


_PER_TOKEN_CLAIMS = frozenset(
    {"exp", "iat", "nbf", "jti", "auth_time", "nonce", "at_hash", "sid", "session_state"}
    | {"origin_jti", "event_id", "uti", "aio", "rh"}
)
"""Claims that issuers generate for each token, and that grant nothing."""


def entitlement(token: str) -> dict[str, Any]:
    """The claims that tokens of one login share. Tokens with an equal entitlement reach the same orders.

    Only the services know the names of the claims that grant access, so all but the generated ones count.
    """
    return {name: value for name, value in _claims(token).items() if name not in _PER_TOKEN_CLAIMS}


def _claims(token: str) -> dict[str, Any]:
    try:
        payload = token.split(".")[1]
        claims = decode(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, IndexError):
        return {}
    return claims if isinstance(claims, dict) else {}
