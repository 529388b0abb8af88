"""Tokens: made here for people, drivers, commands and tests."""

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

from tracking.errors import CommandError
from tracking_shared.auth.keys import MIN_RSA_BITS
from tracking_shared.contracts.identifiers import SUBJECT_RULE, is_identifier, is_subject
from tracking_shared.policy.claims import BadClaimSetting, ClaimNames, claim_names
from tracking_shared.settings import MIN_SECRET_BYTES

SourceType = Literal["driver", "system", "operator", "customer"]
Scope = Literal["orders:write", "orders:read", "orders:correct", "webhooks:manage", "orders:admin"]

_TTL = re.compile(r"([1-9]\d{0,8})([smhd])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

ISSUER_SETTINGS = {"iss": "JWT_ISSUER", "aud": "JWT_AUDIENCE"}
"""Claim → the setting of the services that it must equal, if that is set."""

_CONFIGURABLE_CLAIMS = ("scope", "merchants", "orders", "source_type")


class InvalidClaims(CommandError):
    """The services would refuse such a token, or an option is invalid. The message says why."""


def parse_ttl(text: str) -> int:
    """The seconds of a duration such as `90s`, `30m`, `1h`, `7d`.

    Raises:
        InvalidClaims: it is not one.
    """
    match = _TTL.fullmatch(text)
    if not match:
        raise InvalidClaims(f"--ttl {text}: write a number and a unit, such as 90s, 30m, 1h or 7d")
    return int(match[1]) * _UNIT_SECONDS[match[2]]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The private key of an issuer, and the key id by which services find its public half."""

    material: RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey
    algorithm: str
    key_id: str


def read_signing_key(path: Path, key_id: str) -> SigningKey:
    """Reads a private key from a PEM file, for tokens that name it `key_id` (`kid`; "" = none).

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
    issuer_claims: Mapping[str, str] | None = None,
    names: ClaimNames | None = None,
) -> str:
    """Makes a token with these claims and an id of its own (`jti`), valid from now for `ttl_seconds`.

    `key`: the secret, or a private key. `issuer_claims`: the claims of `ISSUER_SETTINGS`. `names`: the names
    of the other claims. None: taken from the environment.

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
    names = names or claim_names_in(os.environ)
    issued_at = time()
    claims: dict[str, Any] = {
        "sub": subject,
        names.source_type: source_type,
        names.scope[0]: scope,
        names.merchants: merchants,
        "exp": int(issued_at) + ttl_seconds,
        # With milliseconds, so that a token made right after a revocation counts as a later one.
        "iat": round(issued_at, 3),
        "jti": secrets.token_hex(16),
    }
    if orders is not None:
        claims[names.orders] = orders
    claims |= issuer_claims_in(os.environ) if issuer_claims is None else issuer_claims
    if isinstance(key, str):
        return jwt.encode(claims, key, algorithm="HS256")
    headers = {"kid": key.key_id} if key.key_id else None
    return jwt.encode(claims, key.material, algorithm=key.algorithm, headers=headers)


def issuer_claims_in(settings: Mapping[str, str]) -> dict[str, str]:
    """The issuer and audience claims that these settings require, by claim."""
    return {claim: settings[name] for claim, name in ISSUER_SETTINGS.items() if settings.get(name)}


def claim_names_in(settings: Mapping[str, str]) -> ClaimNames:
    """The names of the claims that services with these settings read.

    Raises:
        InvalidClaims: services would not start with these settings.
    """
    names = {name: settings.get(f"CLAIM_{name.upper()}", "") for name in _CONFIGURABLE_CLAIMS}
    try:
        return claim_names(**names, role_scopes=settings.get("ROLE_SCOPES", ""))
    except BadClaimSetting as error:
        raise InvalidClaims(str(error)) from None


def check_subject(option: str, text: str) -> None:
    """Raises `InvalidClaims`, naming the option, if the text is not a valid `sub`."""
    if not is_subject(text):
        raise InvalidClaims(f"{option} {text!r}: write {SUBJECT_RULE}")


def check_identifiers(option: str, texts: list[str]) -> None:
    """Raises `InvalidClaims`, naming the option, if one of the texts is not a valid identifier."""
    for text in texts:
        if not is_identifier(text):
            raise InvalidClaims(
                f"{option} {text!r}: write 1 to 64 of A-Z a-z 0-9 . _ : - with a letter or digit first"
            )
