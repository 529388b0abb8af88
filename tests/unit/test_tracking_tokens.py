"""Tokens of the command line, read by the code of the services."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from issuers import ALGORITHMS, Issuer, new_key
from tracking.devstack.tokens import InvalidClaims, mint_token, parse_ttl, read_signing_key
from tracking_shared.auth.tokens import TokenVerifier
from tracking_shared.contracts.access import may_manage_webhooks
from tracking_shared.settings import Settings

SECRET = "s" * 32


def test_the_services_understand_a_token() -> None:
    token = mint_token(
        SECRET,
        subject="driver-7",
        source_type="driver",
        scope="orders:write orders:read",
        merchants=["acme", "bolt"],
        orders=["o-1"],
    )

    settings = Settings(amqp_url="amqp://x", mongodb_url="mongodb://x", jwt_secret=SECRET)
    principal = TokenVerifier(settings).verify(token)
    assert (principal.subject, principal.source_type) == ("driver-7", "driver")
    assert principal.scopes == {"orders:write", "orders:read"}
    assert principal.grant.merchants == {"acme", "bolt"}
    assert principal.grant.orders == frozenset({"o-1"})


def test_a_token_may_manage_webhooks() -> None:
    token = mint_token(SECRET, subject="shop", scope="webhooks:manage", merchants=["acme"])
    settings = Settings(amqp_url="amqp://x", mongodb_url="mongodb://x", jwt_secret=SECRET)
    assert may_manage_webhooks(TokenVerifier(settings).verify(token))


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h", 3600), ("7d", 604_800)])
def test_durations(text: str, seconds: int) -> None:
    assert parse_ttl(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "0s", "1.5h", "1 h", "1w"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InvalidClaims, match="--ttl"):
        parse_ttl(text)


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"subject": "no\ncontrols"}, "--sub"),
        ({"subject": "x" * 256}, "--sub"),
        ({"subject": "half a pair \ud800"}, "--sub"),
        ({"merchants": ["*", "a/b"]}, "--merchants"),
        ({"orders": [""]}, "--orders"),
        ({"scope": "orders:read orders:fly"}, "orders:fly is none of"),
    ],
)
def test_claims_that_no_service_would_take(claims: dict[str, object], said: str) -> None:
    good: dict[str, object] = {"subject": "s", "scope": "orders:read", "merchants": ["*"]}
    with pytest.raises(InvalidClaims, match=said):
        mint_token(SECRET, **(good | claims))  # type: ignore[arg-type] # one of them is wrong, on purpose


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(InvalidClaims, match="32 bytes"):
        mint_token("short", subject="s", scope="orders:read", merchants=["*"])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("key_id", ["", "named"])
def test_a_token_of_a_private_key_is_understood(tmp_path: Path, algorithm: str, key_id: str) -> None:
    issuer = Issuer(tmp_path / "keys.json")
    issuer.publish(algorithm)
    (tmp_path / "key.pem").write_bytes(
        issuer.key(algorithm).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    key = read_signing_key(tmp_path / "key.pem", key_id and algorithm)
    token = mint_token(key, subject="ann", scope="orders:read", merchants=["*"])
    settings = Settings(amqp_url="amqp://x", mongodb_url="mongodb://x", jwks_file=issuer.path)
    assert TokenVerifier(settings).verify(token).subject == "ann"


def test_a_file_that_is_no_strong_private_key_is_refused(tmp_path: Path) -> None:
    weak = new_key("RS256", bits=1024).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (b"", b"-----BEGIN PRIVATE KEY-----", weak):
        (tmp_path / "key.pem").write_bytes(content)
        with pytest.raises(InvalidClaims, match="--key"):
            read_signing_key(tmp_path / "key.pem", "")
    with pytest.raises(InvalidClaims, match="--key"):
        read_signing_key(tmp_path / "missing.pem", "")


def test_a_token_is_for_whom_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_ISSUER", "ours")
    monkeypatch.setenv("JWT_AUDIENCE", "tracking")
    token = mint_token(SECRET, subject="ann", scope="orders:read", merchants=["*"])
    place = {"jwt_issuer": "ours", "jwt_audience": "tracking"}
    settings = Settings(amqp_url="amqp://x", mongodb_url="mongodb://x", jwt_secret=SECRET, **place)
    assert TokenVerifier(settings).verify(token).subject == "ann"


def test_claims_go_where_the_services_look_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    renamed = {
        "claim_scope": "realm_access/roles",
        "claim_merchants": "https://example.com/merchants",
        "claim_orders": "o/list",
        "claim_source_type": "kind",
    }
    for name, value in renamed.items():
        monkeypatch.setenv(name.upper(), value)
    token = mint_token(
        SECRET,
        subject="auth0|5f7c",
        scope="orders:read",
        merchants=["acme"],
        orders=["o-1"],
        source_type="driver",
    )
    settings = Settings(amqp_url="amqp://x", mongodb_url="mongodb://x", jwt_secret=SECRET, **renamed)
    principal = TokenVerifier(settings).verify(token)
    assert (principal.subject, principal.source_type) == ("auth0|5f7c", "driver")
    assert principal.scopes == {"orders:read"}
    assert (principal.grant.merchants, principal.grant.orders) == ({"acme"}, {"o-1"})
    monkeypatch.setenv("CLAIM_SCOPE", "/")
    with pytest.raises(InvalidClaims, match="CLAIM_SCOPE"):
        mint_token(SECRET, subject="ann", scope="orders:read", merchants=["acme"])
