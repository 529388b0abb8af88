"""An issuer of tokens: key pairs of each family, and the set of public keys that it publishes."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
ALGORITHMS = ("RS256", "ES256", "EdDSA")


def new_key(algorithm: str, *, bits: int = 2048) -> PrivateKey:
    if algorithm == "RS256":
        return rsa.generate_private_key(public_exponent=65537, key_size=bits)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def public_jwk(algorithm: str, key: PrivateKey, **members: Any) -> dict[str, Any]:
    """The public half as a JSON Web Key."""
    document = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key())
    return json.loads(document) | {"use": "sig"} | members  # type: ignore[no-any-return]


@dataclass
class Issuer:
    """Its keys are named after their algorithms, made when they are first needed."""

    path: Path
    """Where its set is written."""
    keys: dict[str, PrivateKey] = field(default_factory=dict)
    published: tuple[str, ...] = ()

    def key(self, algorithm: str) -> PrivateKey:
        if algorithm not in self.keys:
            self.keys[algorithm] = new_key(algorithm)
        return self.keys[algorithm]

    def document(self) -> dict[str, Any]:
        return {"keys": [public_jwk(name, self.key(name), kid=name, alg=name) for name in self.published]}

    def publish(self, *algorithms: str) -> None:
        self.published = algorithms
        self.path.write_text(json.dumps(self.document()))

    def token(
        self,
        algorithm: str,
        claims: dict[str, Any],
        *,
        key_id: str | None = "",
        headers: dict[str, Any] | None = None,
    ) -> str:
        """A token of these claims. `key_id`: None = unnamed; "" = by the key's own name."""
        named = {} if key_id is None else {"kid": key_id or algorithm}
        return jwt.encode(claims, self.key(algorithm), algorithm, headers=named | (headers or {}))
