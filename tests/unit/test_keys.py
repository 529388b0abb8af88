"""Which keys tokens may be verified with, and which settings are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448

from issuers import Issuer, new_key, public_jwk
from tracking_shared.auth.keys import MAX_JWKS_BYTES, MAX_KEYS, InvalidKeys, KeyRing, KeySet, parse_jwks
from tracking_shared.errors import SettingsError
from tracking_shared.settings import MIN_SECRET_BYTES, Settings, check_token_settings

SECRET = "s" * MIN_SECRET_BYTES


def jwks(*entries: object) -> bytes:
    return json.dumps({"keys": entries}).encode()


GOOD = public_jwk("ES256", new_key("ES256"), kid="good")


def other_curve() -> dict[str, Any]:
    key = ec.generate_private_key(ec.SECP384R1())
    document = public_jwk("ES256", new_key("ES256"))
    numbers = key.public_key().public_numbers()
    assert numbers.x
    return document | {"crv": "P-384"}


def ed448_key() -> dict[str, Any]:
    return public_jwk("EdDSA", ed448.Ed448PrivateKey.generate())  # type: ignore[arg-type] # a wrong one, on purpose


def private_jwk() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(new_key("ES256")))
    assert "d" in document
    return document


@pytest.mark.parametrize(
    "entry",
    [
        lambda: {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "alg": "HS256", "kid": "x"},
        lambda: GOOD | {"use": "enc"},
        lambda: GOOD | {"key_ops": ["sign"]},
        lambda: GOOD | {"key_ops": "verify"},
        lambda: GOOD | {"alg": "HS256"},
        lambda: GOOD | {"alg": "ES512"},
        lambda: GOOD | {"alg": ["ES256"]},
        lambda: GOOD | {"kid": 7},
        private_jwk,
        lambda: GOOD | {"x": "AAAA"},
        lambda: GOOD | {"x": 7},
        lambda: GOOD | {"y": None},
        lambda: {name: value for name, value in GOOD.items() if name != "x"},
        lambda: GOOD | {"kty": ["EC"]},
        lambda: GOOD | {"kty": "RSA"},
        lambda: GOOD | {"crv": {"P-256": 1}},
        lambda: public_jwk("RS256", new_key("RS256", bits=1024)),
        other_curve,
        ed448_key,
        lambda: None,
        list,
        lambda: "key",
        dict,
    ],
)
def test_a_key_that_cannot_be_trusted_is_left_out(entry: Callable[[], object]) -> None:
    assert [key.key_id for key in parse_jwks(jwks(entry(), GOOD))] == ["good"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"<html>",
        b'{"keys": {}}',
        b'{"keys": []}',
        b"\xff",
        b"[" * 100_000,
        jwks(*[GOOD] * (MAX_KEYS + 1)),
        jwks(GOOD) + b" " * MAX_JWKS_BYTES,
        jwks({"kty": "oct", "k": "AAAA"}),
    ],
    ids=range(11),
)
def test_what_is_no_key_set_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidKeys):
        parse_jwks(body)


def test_a_key_is_found_by_its_name_and_alone_without_one() -> None:
    issuer = Issuer(Path("unused"), published=("RS256", "ES256"))
    both = KeyRing(settings(jwt_secret=SECRET)).keys.keys + parse_jwks(json.dumps(issuer.document()).encode())
    keys = KeySet(both)
    assert [key.algorithm for key in keys.candidates("RS256", "RS256")] == ["RS256"]
    assert [key.key_id for key in keys.candidates("ES256", None)] == ["ES256"]
    assert not keys.candidates("ES256", "RS256")
    assert not keys.candidates("HS256", "RS256")
    assert not keys.candidates("none", None)
    assert not keys.candidates(["RS256"], "RS256")
    two = KeySet(both + parse_jwks(jwks(public_jwk("RS256", new_key("RS256"), kid="second"))))
    assert not two.candidates("RS256", None)


def settings(**values: Any) -> Settings:
    return Settings(**({"amqp_url": "amqp://x", "mongodb_url": "mongodb://x"} | values))


@pytest.mark.parametrize(
    "values",
    [
        {"jwt_secret": SECRET},
        {"jwt_secret": SECRET, "jwt_secret_previous": SECRET[::-1] + "x"},
        {"jwks_url": "https://issuer.example/keys"},
        {"jwks_url": "http://127.0.0.1:9000/keys"},
        {"jwks_url": "http://[::1]:9000/keys"},
        {"jwks_url": "http://localhost/keys"},
        {"jwks_file": Path("keys.json")},
        {"jwt_secret": SECRET, "jwks_url": "https://issuer.example/keys"},
    ],
)
def test_a_safe_configuration_is_taken(values: dict[str, Any]) -> None:
    check_token_settings(settings(**values))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "JWT_SECRET: set it, or"),
        ({"jwt_secret": "x" * (MIN_SECRET_BYTES - 1)}, "JWT_SECRET: has 31 bytes"),
        ({"jwt_secret": "short", "jwks_url": "https://issuer.example/keys"}, "JWT_SECRET: has 5 bytes"),
        ({"jwt_secret": SECRET, "jwt_secret_previous": "short"}, "JWT_SECRET_PREVIOUS: has 5"),
        ({"jwt_secret_previous": SECRET}, "JWT_SECRET_PREVIOUS: goes with"),
        ({"jwks_url": "https://issuer.example/keys", "jwks_file": Path("k")}, "not both"),
        ({"jwks_url": "http://issuer.example/keys"}, "must be https"),
        ({"jwks_url": "http://127.0.0.1.issuer.example/keys"}, "must be https"),
        ({"jwks_url": "http://10.0.0.1/keys"}, "must be https"),
        ({"jwks_url": "http://localhost.issuer.example/keys"}, "must be https"),
        ({"jwks_url": "file:///etc/passwd"}, "must be an https"),
        ({"jwks_url": "ftp://127.0.0.1/keys"}, "must be an https"),
        ({"jwks_url": "issuer.example/keys"}, "must be an https"),
        ({"jwks_url": "https://"}, "must be an https"),
        ({"jwks_url": "http://[::1/keys"}, "is not a URL"),
        ({"jwks_url": "https://user:hunter2@issuer.example/keys"}, "must not hold"),
    ],
)
def test_an_unsafe_configuration_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as refusal:
        check_token_settings(settings(**values))
    assert SECRET not in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("leeway", [-1, 61, float("nan"), float("inf")])
def test_the_leeway_is_bounded(leeway: float) -> None:
    with pytest.raises(ValueError, match="jwt_leeway_seconds"):
        settings(jwt_secret=SECRET, jwt_leeway_seconds=leeway)


def test_a_key_file_that_cannot_be_read_is_refused_at_the_start(tmp_path: Path) -> None:
    empty = tmp_path / "empty.json"
    empty.write_text('{"keys": []}')
    for path in (tmp_path / "missing.json", empty, tmp_path):
        with pytest.raises(SettingsError, match="JWKS_FILE"):
            KeyRing(settings(jwks_file=path))


def test_secrets_are_not_shown_with_the_settings() -> None:
    shown = repr(settings(jwt_secret=SECRET, jwt_secret_previous=SECRET + "older"))
    assert SECRET not in shown
