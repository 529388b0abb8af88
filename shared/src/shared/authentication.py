"""Who sends a request: from its headers to a verified caller whose token is not revoked."""

from fastapi import Request

from shared.access import Principal
from shared.challenges import invalid_token, no_token
from shared.edges import charge, count_in_hand
from shared.key_ring import KeysUnavailable
from shared.problems import Problem, ProblemError
from shared.revocations import Revocations
from shared.tokens import NoToken, TokenError, TokenVerifier, bearer_token

REVOKED = invalid_token("The token has been revoked.")
"""What the holder of a revoked token is told, by every service."""

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
        await verifier.learn_key_of(token)
        principal = verifier.verify(token)
    except NoToken as error:
        raise ProblemError.of(no_token(str(error))) from None
    except TokenError as error:
        raise ProblemError.of(invalid_token(str(error))) from None
    except KeysUnavailable:
        raise ProblemError.of(KEYS_UNAVAILABLE) from None
    charge(request, principal)
    count_in_hand(request, principal)
    return principal


def refuse_revoked(principal: Principal, revocations: Revocations) -> None:
    """Raises `ProblemError` (`unauthenticated`) if the caller's token is revoked."""
    if revocations.include(principal):
        raise ProblemError.of(REVOKED)
