"""Tokens: made by hand for a person, a driver or a test of this machine."""

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any, Literal, get_args

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from shared.claims import BadClaimSetting, ClaimNames, claim_names
from shared.identifiers import SUBJECT_RULE, is_identifier, is_subject
from shared.keys import MIN_RSA_BITS
from shared.settings import MIN_SECRET_BYTES

SourceType = Literal["driver", "system", "operator", "customer"]
Scope = Literal["orders:write", "orders:read", "orders:admin"]

_TTL = re.compile(r"([1-9]\d{0,8})([smhd])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


PLACES = {"iss": "JWT_ISSUER", "aud": "JWT_AUDIENCE"}
"""Claim → the setting of the services that it must be equal to, where that is set."""


_RENAMED = ("scope", "merchants", "orders", "source_type")


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


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The private key of an issuer, and how services find its public half."""

    material: RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey
    algorithm: str
    key_id: str


def read_signing_key(path: Path, key_id: str) -> SigningKey:
    """The private key in a PEM file, for tokens that name it `key_id` (`kid`; "" = none).

    Raises:
        InvalidClaims: it cannot be read, or is not for RS256, ES256 or EdDSA.
    """
    try:
        material = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidClaims(
            f"--key {path}: cannot be read as a private key ({type(error).__name__})"
        ) from None
    if isinstance(material, RSAPrivateKey) and material.key_size >= MIN_RSA_BITS:
        return SigningKey(material, "RS256", key_id)
    if isinstance(material, EllipticCurvePrivateKey) and isinstance(material.curve, SECP256R1):
        return SigningKey(material, "ES256", key_id)
    if isinstance(material, Ed25519PrivateKey):
        return SigningKey(material, "EdDSA", key_id)
    raise InvalidClaims(f"--key {path}: use RSA of {MIN_RSA_BITS} bits or more, P-256, or Ed25519")


def mint_token(
    key: str | SigningKey,
    *,
    subject: str,
    scope: str,
    merchants: list[str],
    source_type: SourceType = "system",
    orders: list[str] | None = None,
    ttl_seconds: int = 3600,
    places: Mapping[str, str] | None = None,
    claims_at: ClaimNames | None = None,
) -> str:
    """A token with these claims and an id of its own (`jti`), valid from now for `ttl_seconds`.

    `key`: the secret, or a private key. `places`: the claims of `PLACES`; `claims_at`: the names of others.
    None: what the environment says.

    Raises:
        InvalidClaims: the services would refuse it.
    """
    if isinstance(key, str) and len(key.encode()) < MIN_SECRET_BYTES:
        raise InvalidClaims(f"JWT_SECRET: has less than {MIN_SECRET_BYTES} bytes; the services refuse it")
    check_subject("--sub", subject)
    check_identifiers("--merchants", [merchant for merchant in merchants if merchant != "*"])
    check_identifiers("--orders", orders or [])
    unknown = set(scope.split()) - set(get_args(Scope))
    if unknown:
        raise InvalidClaims(f"--scope: {', '.join(sorted(unknown))} is none of {', '.join(get_args(Scope))}")
    names = claims_at or claim_names_in(os.environ)
    issued_at = time()
    claims: dict[str, Any] = {
        "sub": subject,
        names.source_type: source_type,
        names.scope[0]: scope,
        names.merchants: merchants,
        "exp": int(issued_at) + ttl_seconds,
        # With milliseconds, so that a token made right after a revocation is not taken for an earlier one.
        "iat": round(issued_at, 3),
        "jti": secrets.token_hex(16),
    }
    if orders is not None:
        claims[names.orders] = orders
    claims |= named_places(os.environ) if places is None else places
    if isinstance(key, str):
        return jwt.encode(claims, key, algorithm="HS256")
    named = {"kid": key.key_id} if key.key_id else None
    return jwt.encode(claims, key.material, algorithm=key.algorithm, headers=named)


def named_places(settings: Mapping[str, str]) -> dict[str, str]:
    """The claims of `PLACES` that these settings ask for, by claim."""
    return {claim: settings[name] for claim, name in PLACES.items() if settings.get(name)}


def claim_names_in(settings: Mapping[str, str]) -> ClaimNames:
    """Where the services with these settings look for the claims of a token.

    Raises:
        InvalidClaims: they would not start.
    """
    names = {name: settings.get(f"CLAIM_{name.upper()}", "") for name in _RENAMED}
    try:
        return claim_names(**names, role_scopes=settings.get("ROLE_SCOPES", ""))
    except BadClaimSetting as error:
        raise InvalidClaims(str(error)) from None


def check_subject(option: str, text: str) -> None:
    """Raises `InvalidClaims`, naming the option, if the text can be nobody's `sub`."""
    if not is_subject(text):
        raise InvalidClaims(f"{option} {text!r}: write {SUBJECT_RULE}")


def check_identifiers(option: str, texts: list[str]) -> None:
    """Raises `InvalidClaims`, naming the option, if one of the texts is no identifier."""
    for text in texts:
        if not is_identifier(text):
            raise InvalidClaims(
                f"{option} {text!r}: write 1 to 64 of A-Z a-z 0-9 . _ : - with a letter or digit first"
            )
