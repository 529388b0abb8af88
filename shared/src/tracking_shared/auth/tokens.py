"""Tokens: from the text of a JWT to a verified `Principal`. Every service verifies with this."""

from collections import OrderedDict
from collections.abc import Mapping
from time import time
from typing import Any

import jwt
from jwt.exceptions import InvalidJTIError, InvalidSubjectError

from tracking_shared.auth.keys import PUBLIC_KEY_ALGORITHMS, Key, KeyRing, KeysUnavailable
from tracking_shared.contracts.access import Grant, Principal
from tracking_shared.contracts.identifiers import SUBJECT_RULE
from tracking_shared.errors import TrackingError
from tracking_shared.policy.claims import ClaimFault, ClaimNames, Claims, read_claims
from tracking_shared.settings import Settings, claim_names_of

MAX_TOKEN_BYTES = 8192
"""Servers cap request headers near 16 KiB; a longer token would not travel."""

CACHED_TOKENS = 10_000
"""Verified tokens kept, the most recently used. Looking one up costs under 1 µs, verifying it 25 to 120."""

CACHED_CHARACTERS = 8 * 1024 * 1024
"""Of all their texts together: a token that names a thousand orders takes ten times its length in memory."""


class TokenError(TrackingError):
    """The token is missing, malformed, forged or no longer valid. The message holds no part of it, and says
    why only where the signature was right.
    """


class NoToken(TokenError):
    """The request has none."""


class UnknownKey(TokenError):
    """The token names a key that is none of ours, or not yet."""


_FAULTS: Mapping[type[jwt.PyJWTError], tuple[str, str]] = {
    jwt.InvalidIssuerError: ("iss", "is not the issuer whose tokens this service takes"),
    jwt.InvalidAudienceError: ("aud", "is not this service"),
    jwt.InvalidIssuedAtError: ("iat", "must be a number of seconds since 1970"),
    InvalidSubjectError: ("sub", SUBJECT_RULE),
    InvalidJTIError: ("jti", "must be a text"),
}
"""Errors of the library after it has verified the signature: the claim that is at fault, and its rule."""


class TokenVerifier:
    """Verifies tokens, and remembers the verified ones until they expire (bounded)."""

    def __init__(self, settings: Settings, keys: KeyRing | None = None) -> None:
        """Without `keys`: those of the settings.

        Raises:
            SettingsError: `JWKS_FILE` cannot be read as a key set, or a setting names no claim.
        """
        self.ring = keys or KeyRing(settings)
        self._names = claim_names_of(settings)
        self._issuer = settings.jwt_issuer or None
        self._audience = settings.jwt_audience or None
        self._leeway_seconds = settings.jwt_leeway_seconds
        self._verified: OrderedDict[str, Principal] = OrderedDict()
        self._verified_characters = 0
        self._verified_with = self.ring.keys

    def verify(self, token: str) -> Principal:
        """The caller that `token` stands for.

        Raises:
            TokenError: anything but a currently valid token of ours.
            KeysUnavailable: that is unknown, because the keys are not known yet.
        """
        if self._verified_with is not self.ring.keys:
            self._forget_all()  # a key that was withdrawn vouches for nothing any more
        known = self._verified.get(token)
        principal = known or self._decode(token)
        if principal.expires_at <= time():
            self._forget(token)
            raise TokenError("exp: the token has expired.")
        if known is None:
            self._remember(token, principal)
        else:
            self._verified.move_to_end(token)
        return principal

    async def refresh_keys_for(self, token: str) -> None:
        """Looks for new keys if the token names one that is not known. To be called before `verify` where
        one can wait; it costs a look-up where there is nothing to learn.
        """
        if token in self._verified or not self.ring.learns:
            return
        try:
            self.verify(token)
        except (UnknownKey, KeysUnavailable):
            await self.ring.learn()
        except TokenError:
            pass  # `verify` will say so

    def _decode(self, token: str) -> Principal:
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenError("The token is too long.")
        invalid: Exception | None = None
        for key in self._candidates(token):
            try:
                return _principal(self._claims_of(token, key), self._names)
            except ClaimFault as fault:
                raise TokenError(f"{fault}.") from None
            except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
                invalid = error
        raise TokenError("The token is not valid.") from invalid

    def _candidates(self, token: str) -> list[Key]:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError) as error:
            raise TokenError("The token is not valid.") from error
        found = list(self.ring.keys.candidates(header.get("alg"), header.get("kid")))
        if found or header.get("alg") not in PUBLIC_KEY_ALGORITHMS:
            return found
        if not self.ring.is_complete:
            raise KeysUnavailable("the key set has not been read yet")
        raise UnknownKey("The token is not valid.")

    def _claims_of(self, token: str, key: Key) -> Claims:
        try:
            document = self._verified_document(token, key)
        except tuple(_FAULTS) as error:
            claim, rule = _FAULTS[type(error)]
            raise ClaimFault(claim, rule) from None
        except jwt.MissingRequiredClaimError as error:
            raise ClaimFault(error.claim, "is missing") from None
        except jwt.ImmatureSignatureError as error:
            raise ClaimFault("iat" if "(iat)" in str(error) else "nbf", "is in the future") from None
        except jwt.DecodeError as error:
            if "(nbf)" in str(error):
                raise ClaimFault("nbf", "must be a number of seconds since 1970") from None
            raise
        return read_claims(document, self._names)

    def _verified_document(self, token: str, key: Key) -> dict[str, Any]:
        return jwt.decode(
            token,
            key.material,
            algorithms=[key.algorithm],
            issuer=self._issuer,
            audience=self._audience,
            leeway=self._leeway_seconds,
            options={
                "require": ["exp", "sub"],
                "verify_exp": False,  # checked at each use, without leeway: entitlement ends when it says
                "verify_aud": self._audience is not None,
            },
        )

    def _remember(self, token: str, principal: Principal) -> None:
        self._verified[token] = principal
        self._verified_characters += len(token)
        while len(self._verified) > CACHED_TOKENS or self._verified_characters > CACHED_CHARACTERS:
            oldest, _ = self._verified.popitem(last=False)
            self._verified_characters -= len(oldest)

    def _forget(self, token: str) -> None:
        if self._verified.pop(token, None) is not None:
            self._verified_characters -= len(token)

    def _forget_all(self) -> None:
        self._verified.clear()
        self._verified_characters = 0
        self._verified_with = self.ring.keys


def bearer_token(authorization: str | None) -> str:
    """The token in an `Authorization` header.

    Raises:
        NoToken: there is none.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NoToken("Send a token: Authorization: Bearer <JWT>.")
    return token.strip()


def _principal(claims: Claims, names: ClaimNames) -> Principal:
    scopes = claims.scopes(names.role_scopes)
    merchants = frozenset({"*"} if "orders:admin" in scopes else claims.merchants)
    return Principal(
        subject=claims.sub,
        source_type=claims.source_type,
        scopes=scopes,
        grant=Grant(merchants=merchants, orders=frozenset(claims.orders) if claims.narrows else None),
        expires_at=claims.exp,
        token_id=claims.jti,
        issued_at=claims.iat,
    )
