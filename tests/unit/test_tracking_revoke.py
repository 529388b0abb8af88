"""What `tracking revoke` is asked for, and what it says."""

import time
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from tracking.cli.token_commands import (
    SubjectRevocation,
    TokenRevocation,
    describe_revocation,
    parse_revocation,
)
from tracking.devstack.tokens import InvalidClaims, mint_token
from tracking_shared.auth.revocations import Revocations
from tracking_shared.auth.tokens import TokenVerifier
from tracking_shared.contracts.access import Principal
from tracking_shared.contracts.timestamps import format_time, now
from tracking_shared.settings import Settings

SECRET = "s" * 32
TIME = datetime(2026, 3, 1, 8, tzinfo=UTC)
LATER = format_time(now() + timedelta(days=1))


def principal_of(token: str) -> Principal:
    return TokenVerifier(Settings(amqp_url="amqp://x", mongodb_url="mongodb://x", jwt_secret=SECRET)).verify(
        token
    )


def minted() -> Principal:
    return principal_of(mint_token(SECRET, subject="ann", scope="orders:read", merchants=["*"]))


def test_a_subject_until_now_or_until_a_time() -> None:
    before = now()
    revocation = parse_revocation("ann", "", "", "")
    assert isinstance(revocation, SubjectRevocation)
    assert before <= revocation.issued_before <= now()
    assert parse_revocation("ann", "2026-03-01T09:00:00+01:00", "", "") == SubjectRevocation(
        "ann", TIME, None
    )


def test_a_token_by_its_id_for_good_or_until_it_expires() -> None:
    assert parse_revocation("", "", "a/b c", "") == TokenRevocation("a/b c", None)
    assert parse_revocation("", "", "x", LATER).until == datetime.fromisoformat(LATER)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("", "", "", ""), "--sub, or"),
        (("ann", "", "x", ""), "--sub, or"),
        (("no\ncontrols", "", "", ""), "--sub"),
        (("x" * 256, "", "", ""), "--sub"),
        (("", LATER, "x", ""), "--issued-before goes with --sub"),
        (("", "", "x" * 257, ""), "--jti"),
        (("", "", "x", "2026-01-31T08:15:00Z"), "past"),
        (("ann", "yesterday", "", ""), "--issued-before yesterday"),
        (("ann", "2026-01-31", "", ""), "with an offset"),
        (("ann", "2026-01-31T08:15:00", "", ""), "with an offset"),
        (("ann", "0001-01-01T00:00:00+23:00", "", ""), "with an offset"),
    ],
)
def test_options_that_make_no_sense(options: tuple[str, str, str, str], said: str) -> None:
    with pytest.raises(InvalidClaims, match=said):
        parse_revocation(*options)


def test_it_says_what_was_revoked_and_who_acts_on_it() -> None:
    said = describe_revocation(SubjectRevocation("ann", TIME, None))
    assert "the tokens of ann that were issued before 2026-03-01T08:00:00.000Z" in said
    assert "within 3 seconds, and close open streams" in said
    assert describe_revocation(TokenRevocation("x", None)).startswith("revoked: the token x\n")


def test_a_token_of_the_command_line_can_be_revoked_alone_and_with_its_subject() -> None:
    first, second = minted(), minted()
    assert first.token_id
    revoked = Revocations(token_ids=frozenset({first.token_id}))
    assert revoked.include(first)
    assert not revoked.include(second)

    time.sleep(0.002)  # whoever issues in the same millisecond is not told apart
    issued_before = parse_revocation("ann", "", "", "")
    assert isinstance(issued_before, SubjectRevocation)
    revoked = Revocations(issued_before={"ann": issued_before.issued_before.timestamp()})
    assert revoked.include(first)
    assert revoked.include(second)
    assert not revoked.include(minted())


def test_a_token_says_when_it_was_issued() -> None:
    before = time.time()
    claims = jwt.decode(
        mint_token(SECRET, subject="ann", scope="orders:read", merchants=["*"], ttl_seconds=60),
        options={"verify_signature": False},
    )
    assert before - 0.001 <= claims["iat"] <= time.time() + 0.001
    assert 59 <= claims["exp"] - claims["iat"] <= 60
