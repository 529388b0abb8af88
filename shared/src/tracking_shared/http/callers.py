"""The caller of a request, by its token, and the refusals of one who is unknown or may not do it."""

import re

from fastapi import Request

from tracking_shared.auth.keys import KeysUnavailable
from tracking_shared.auth.revocations import Revocations
from tracking_shared.auth.tokens import NoToken, TokenError, TokenVerifier, bearer_token
from tracking_shared.contracts.access import Principal, may_ask_for_outcomes, may_read
from tracking_shared.contracts.problems import CHALLENGE, Problem, ProblemError
from tracking_shared.http.http_limits import consume_rate_limit, count_in_flight

_NOT_ALLOWED = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")
"""Characters that a description must not hold (RFC 6750, section 3)."""


def no_token(detail: str) -> Problem:
    """401 for a request without a token: no error is named then."""
    return Problem("unauthenticated", detail)


def invalid_token(detail: str) -> Problem:
    """401 for a token that is refused, and why."""
    challenge = f'{CHALLENGE}, error="invalid_token", error_description="{_described(detail)}"'
    return Problem("unauthenticated", detail, own_headers={"WWW-Authenticate": challenge})


def insufficient_scope(detail: str, scope: str) -> Problem:
    """403 for a token that is good and does not allow this. `scope`: what the resource asks for."""
    challenge = (
        f'{CHALLENGE}, error="insufficient_scope", scope="{scope}", error_description="{_described(detail)}"'
    )
    return Problem("forbidden", detail, own_headers={"WWW-Authenticate": challenge})


def _described(detail: str) -> str:
    return _NOT_ALLOWED.sub("'", detail)


REVOKED = invalid_token("The token has been revoked.")
"""The refusal of a revoked token, the same by every service."""

KEYS_UNAVAILABLE = Problem("keys-unavailable", "The keys to verify tokens with are not known yet.")


async def authenticated(request: Request, verifier: TokenVerifier) -> Principal:
    """The verified caller of a request, which counts against the caller's rate limit and share. Whether the
    token is revoked is a second question.

    Raises:
        ProblemError: `unauthenticated`, `keys-unavailable`, or `too-many-requests`.
    """
    headers = request.headers.getlist("authorization")
    if len(headers) > 1:
        raise ProblemError.of(invalid_token("Send one Authorization header."))
    try:
        token = bearer_token(headers[0] if headers else None)
        await verifier.refresh_keys_for(token)
        principal = verifier.verify(token)
    except NoToken as error:
        raise ProblemError.of(no_token(str(error))) from None
    except TokenError as error:
        raise ProblemError.of(invalid_token(str(error))) from None
    except KeysUnavailable:
        raise ProblemError.of(KEYS_UNAVAILABLE) from None
    consume_rate_limit(request, principal)
    count_in_flight(request, principal)
    return principal


def refuse_revoked(principal: Principal, revocations: Revocations) -> None:
    """Raises `ProblemError` (`unauthenticated`) if the caller's token is revoked."""
    if revocations.include(principal):
        raise ProblemError.of(REVOKED)


def refuse_without_reading(principal: Principal) -> None:
    """Raises `ProblemError` (`forbidden`) if the caller may not read at all."""
    if not may_read(principal):
        detail = "The token does not have the scope orders:read."
        raise ProblemError.of(insufficient_scope(detail, "orders:read"))


def refuse_without_outcomes(principal: Principal) -> None:
    """Raises `ProblemError` (`forbidden`) if the caller may neither read nor have sent an update."""
    if not may_ask_for_outcomes(principal):
        detail = "The token has none of the scopes orders:read, orders:write and orders:correct."
        raise ProblemError.of(insufficient_scope(detail, "orders:read"))
