"""Tokens: made by hand for a person, a driver or a test of this machine."""

import re
import secrets
from time import time
from typing import Literal, get_args

import jwt

from shared.identifiers import is_identifier
from shared.settings import MIN_SECRET_BYTES

SourceType = Literal["driver", "system", "operator", "customer"]
Scope = Literal["orders:write", "orders:read", "orders:admin"]

_TTL = re.compile(r"([1-9]\d{0,8})([smhd])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class InvalidClaims(ValueError):
    """No service would take such a token. The message says why."""


def parse_ttl(text: str) -> int:
    """Seconds of a duration such as `90s`, `30m`, `1h`, `7d`.

    Raises:
        InvalidClaims: it is not one.
    """
    match = _TTL.fullmatch(text)
    if not match:
        raise InvalidClaims(f"--ttl {text}: write a number and a unit, such as 90s, 30m, 1h or 7d")
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def mint_token(
    secret: str,
    *,
    subject: str,
    scope: str,
    merchants: list[str],
    source_type: SourceType = "system",
    orders: list[str] | None = None,
    ttl_seconds: int = 3600,
) -> str:
    """A token (HS256) with these claims and an id of its own (`jti`), valid from now for `ttl_seconds`.

    Raises:
        InvalidClaims: the services would refuse it.
    """
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise InvalidClaims(f"JWT_SECRET: has less than {MIN_SECRET_BYTES} bytes; the services refuse it")
    check_identifiers("--sub", [subject])
    check_identifiers("--merchants", [merchant for merchant in merchants if merchant != "*"])
    check_identifiers("--orders", orders or [])
    unknown = set(scope.split()) - set(get_args(Scope))
    if unknown:
        raise InvalidClaims(f"--scope: {', '.join(sorted(unknown))} is none of {', '.join(get_args(Scope))}")
    issued_at = time()
    claims = {
        "sub": subject,
        "source_type": source_type,
        "scope": scope,
        "merchants": merchants,
        "exp": int(issued_at) + ttl_seconds,
        # With milliseconds, so that a token made right after a revocation is not taken for an earlier one.
        "iat": round(issued_at, 3),
        "jti": secrets.token_hex(16),
    }
    if orders is not None:
        claims["orders"] = orders
    return jwt.encode(claims, secret, algorithm="HS256")


def check_identifiers(option: str, texts: list[str]) -> None:
    """Raises `InvalidClaims`, naming the option, if one of the texts is no identifier."""
    for text in texts:
        if not is_identifier(text):
            raise InvalidClaims(
                f"{option} {text!r}: write 1 to 64 of A-Z a-z 0-9 . _ : - with a letter or digit first"
            )
