"""Tokens of the command line, read by the code of the services."""

import pytest

from shared.settings import Settings
from shared.tokens import TokenVerifier
from tracking.tokens import InvalidClaims, mint_token, parse_ttl

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
        ({"subject": "no spaces"}, "--sub"),
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
