"""Tokens: from the text of a JWT to a verified `Principal`. Every service verifies with this."""

from collections import OrderedDict
from time import time
from typing import Annotated

import jwt
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from shared.access import MAX_GRANTED, Grant, Principal, SourceType
from shared.identifiers import Identifier
from shared.settings import Settings

MAX_TOKEN_BYTES = 8192
"""Servers cap request headers near 16 KiB; a longer token would not travel."""

CACHED_TOKENS = 10_000
"""Verified tokens kept. About 2 KiB each; verification costs ~25 µs, a look-up well under 1 µs."""

LEEWAY_SECONDS = 5
"""How far clocks may differ for `nbf` and `iat`. Expiry has none: entitlement ends when it says."""

_ALGORITHMS = ["HS256"]


class TokenError(Exception):
    """The token is missing, malformed, forged or no longer valid. The message holds no part of it."""


class _Claims(BaseModel):
    sub: Identifier
    source_type: SourceType = "system"
    scope: str = ""
    merchants: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=MAX_GRANTED)] = []
    orders: Annotated[list[Identifier], Field(max_length=MAX_GRANTED)] | None = None
    exp: FiniteFloat
    jti: str | None = None
    iat: FiniteFloat | None = None


class TokenVerifier:
    """Verifies tokens, and remembers the verified ones until they expire (bounded)."""

    def __init__(self, settings: Settings) -> None:
        self._secret = settings.jwt_secret
        self._issuer = settings.jwt_issuer or None
        self._audience = settings.jwt_audience or None
        self._verified: OrderedDict[str, Principal] = OrderedDict()

    def verify(self, token: str) -> Principal:
        """The caller that `token` stands for.

        Raises:
            TokenError: anything but a currently valid token of ours.
        """
        principal = self._verified.get(token)
        if principal is None:
            principal = self._decode(token)
            self._remember(token, principal)
        if principal.expires_at <= time():
            self._verified.pop(token, None)
            raise TokenError("The token has expired.")
        return principal

    def verify_header(self, authorization: str | None) -> Principal:
        """The caller of a request with this `Authorization` header.

        Raises:
            TokenError: no bearer token, or not a valid one.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenError("Send a token: Authorization: Bearer <JWT>.")
        return self.verify(token.strip())

    def _decode(self, token: str) -> Principal:
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenError("The token is too long.")
        try:
            claims = _Claims.model_validate(
                jwt.decode(
                    token,
                    self._secret,
                    algorithms=_ALGORITHMS,
                    issuer=self._issuer,
                    audience=self._audience,
                    leeway=LEEWAY_SECONDS,
                    options={
                        "require": ["exp", "sub"],
                        "verify_exp": False,  # checked at each use, without leeway
                        "verify_aud": self._audience is not None,
                    },
                )
            )
        except (jwt.PyJWTError, ValidationError, ValueError) as error:
            raise TokenError("The token is not valid.") from error
        return _principal(claims)

    def _remember(self, token: str, principal: Principal) -> None:
        self._verified[token] = principal
        if len(self._verified) > CACHED_TOKENS:
            self._verified.popitem(last=False)


def _principal(claims: _Claims) -> Principal:
    scopes = frozenset(claims.scope.split())
    merchants = frozenset(claims.merchants)
    if "orders:admin" in scopes:
        merchants = frozenset({"*"})
    return Principal(
        subject=claims.sub,
        source_type=claims.source_type,
        scopes=scopes,
        grant=Grant(merchants=merchants, orders=None if claims.orders is None else frozenset(claims.orders)),
        expires_at=claims.exp,
        token_id=claims.jti,
        issued_at=claims.iat,
    )
