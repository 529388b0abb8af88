"""Keys: what a token may be verified with. Each is pinned to one algorithm. Pure.

The algorithm of a token's header only says which keys to look among; it never changes how a key is used. So
a public key is never taken for a secret, and `none` names no key at all.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

log = logging.getLogger(__name__)

MAX_JWKS_BYTES = 256 * 1024
MAX_KEYS = 64
"""Issuers publish two to five."""

MIN_RSA_BITS = 2048
"""RFC 7518, section 3.3."""

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

_ALGORITHMS: Mapping[tuple[str, str | None], tuple[str, tuple[str, ...]]] = {
    ("RSA", None): ("RS256", ("RS256",)),
    ("EC", "P-256"): ("ES256", ("ES256",)),
    ("OKP", "Ed25519"): ("EdDSA", ("EdDSA", "Ed25519")),
}
"""By `kty` and `crv`: the algorithm that such a key is for, and what it may say itself (`alg`)."""

PUBLIC_KEY_ALGORITHMS = frozenset(algorithm for algorithm, _ in _ALGORITHMS.values())


class InvalidKeys(Exception):
    """The document is not a set of keys that tokens could be verified with."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key, and the one algorithm that it verifies."""

    algorithm: str
    key_id: str | None
    """`kid`. A secret has none."""
    material: PublicKey | bytes


@dataclass(frozen=True, slots=True)
class KeySet:
    """All keys that are good now."""

    keys: tuple[Key, ...]

    def candidates(self, algorithm: object, key_id: str | None) -> Sequence[Key]:
        """The keys that may have signed a token whose header says this. Empty: it is none of ours.

        A token that names a key is verified with that key alone. One that names none is verified with a
        secret, or with the only public key of its algorithm.
        """
        fitting = [key for key in self.keys if key.algorithm == algorithm]
        named = [key for key in fitting if key.key_id == key_id]
        if key_id is None and not named and len(fitting) == 1:
            return fitting
        return named


def secret_keys(*secrets: str) -> tuple[Key, ...]:
    """Keys for HS256; "" is none."""
    return tuple(Key("HS256", None, secret.encode()) for secret in secrets if secret)


def parse_jwks(body: bytes) -> tuple[Key, ...]:
    """The public keys of a JSON Web Key Set (RFC 7517) that are for verifying RS256, ES256 or EdDSA.

    Others in it are left out: of other types and uses, too weak, or symmetric (a set is public, so that
    would be no secret).

    Raises:
        InvalidKeys: not such a set, longer than the bounds, or without a usable key.
    """
    if len(body) > MAX_JWKS_BYTES:
        raise InvalidKeys(f"more than {MAX_JWKS_BYTES} bytes")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidKeys("not JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise InvalidKeys(f"no list of at most {MAX_KEYS} keys")
    keys = tuple(_usable(entries))
    if not keys:
        raise InvalidKeys("none of its keys can be used")
    return keys


def _usable(entries: Sequence[object]) -> Iterator[Key]:
    for number, entry in enumerate(entries):
        key = _key_of(entry) if isinstance(entry, dict) else "not an object"
        if isinstance(key, Key):
            yield key
        else:
            log.warning("key %d of the set is not used: %s", number, key)


def _key_of(entry: dict[str, Any]) -> Key | str:
    """The key, or why it is not used."""
    objection = _objection(entry)
    if objection is not None:
        return objection
    algorithm, _ = _ALGORITHMS[entry["kty"], entry.get("crv")]
    try:
        material = jwt.PyJWK(entry, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return "it cannot be read"
    if isinstance(material, RSAPublicKey) and material.key_size < MIN_RSA_BITS:
        return f"it has less than {MIN_RSA_BITS} bits"
    if isinstance(material, EllipticCurvePublicKey) and not isinstance(material.curve, SECP256R1):
        return "it is of another curve"
    return Key(algorithm, entry.get("kid"), material)


def _objection(entry: dict[str, Any]) -> str | None:
    kind = (entry.get("kty"), entry.get("crv"))
    if not all(isinstance(part, str | None) for part in kind) or kind not in _ALGORITHMS:
        return "it is not for RS256, ES256 or EdDSA"
    if "d" in entry:
        return "it is a private key, which belongs to the issuer alone"
    if not isinstance(entry.get("kid"), str | None):
        return "its kid is not text"
    if entry.get("use", "sig") != "sig" or "verify" not in _listed(entry.get("key_ops", ["verify"])):
        return "it is for another use"
    if entry.get("alg") is not None and entry["alg"] not in _ALGORITHMS[kind][1]:  # type: ignore[index] # seen above
        return "it is for another algorithm"
    return None


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()
