"""Which tokens are revoked."""

from datetime import UTC, datetime
from time import time
from typing import Any

import jwt
import pytest

from tracking_shared.auth.revocations import Revocations, revocations_of
from tracking_shared.auth.tokens import TokenError, TokenVerifier
from tracking_shared.contracts.access import Principal
from tracking_shared.contracts.documents import RevocationDocument
from tracking_shared.settings import Settings

SECRET = "a-secret-of-the-tests-0123456789abcdef"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()


def principal(**claims: Any) -> Principal:
    """As the verifier makes it of a token with these claims."""
    settings = Settings(amqp_url="amqp://x", mongodb_url="mongodb://x", jwt_secret=SECRET)
    content = {"sub": "ann", "exp": time() + 60} | claims
    return TokenVerifier(settings).verify(jwt.encode(content, SECRET, "HS256"))


@pytest.mark.parametrize(
    ("claims", "included"),
    [
        ({}, False),
        ({"jti": "t-1"}, True),
        ({"jti": "t-1", "sub": "bob", "iat": NOON + 5}, True),
        ({"jti": "t-2"}, False),
        ({"jti": "bob"}, False),
        ({"sub": "bob", "iat": NOON - 1}, True),
        ({"sub": "bob", "iat": NOON}, False),
        ({"sub": "bob", "iat": NOON + 1}, False),
        ({"sub": "bob"}, True),
        ({"sub": "t-1"}, False),
    ],
)
def test_a_token_is_revoked_by_its_id_or_by_its_subject_and_time(
    claims: dict[str, Any], included: bool
) -> None:
    revocations = revocations_of(
        [
            RevocationDocument(
                _id="jti/t-1", token_id="t-1", subject=None, issued_before=None, expires_at=None
            ),
            RevocationDocument(
                _id="sub/bob",
                token_id=None,
                subject="bob",
                issued_before=datetime.fromtimestamp(NOON, UTC),
                expires_at=None,
            ),
        ]
    )
    assert revocations.include(principal(**claims)) is included


def test_nothing_is_revoked_at_first() -> None:
    assert not Revocations().include(principal(jti="t-1"))


@pytest.mark.parametrize(
    "claims", [{"jti": 7}, {"iat": "noon"}, {"iat": float("nan")}, {"exp": float("inf")}]
)
def test_a_token_that_could_not_be_revoked_is_none(claims: dict[str, Any]) -> None:
    with pytest.raises(TokenError):
        principal(**claims)
