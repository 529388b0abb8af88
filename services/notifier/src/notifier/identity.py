"""Who a connection is, and until when: entitlement ends when the token does, or is revoked."""

import asyncio
from collections.abc import Callable
from time import time

from websockets.datastructures import Headers

from notifier.admission import Admission
from notifier.protocol import BEARER_PREFIX, FORBIDDEN, NOT_AUTHENTICATED, OVERLOADED, Refusal
from shared.access import Principal, may_read
from shared.authentication import KEYS_UNAVAILABLE, REVOKED
from shared.challenges import insufficient_scope, invalid_token, no_token
from shared.concurrency_limits import Holder, holder_of
from shared.key_ring import KeysUnavailable
from shared.revocation_list import RevocationList
from shared.tokens import TokenError, TokenVerifier

MAX_TIMER_SECONDS = 3600.0
"""Timers for far-off expiries are set anew, so that a clock that was set is noticed within this time."""


class Identity:
    """The principal of one connection, from its first valid token on."""

    __slots__ = ("_admission", "_holder", "_on_expiry", "_revocations", "_timer", "_verifier", "principal")

    def __init__(
        self,
        verifier: TokenVerifier,
        revocations: RevocationList,
        admission: Admission,
        on_expiry: Callable[[], None],
    ) -> None:
        self._verifier = verifier
        self._revocations = revocations
        self._admission = admission
        self._on_expiry = on_expiry
        self._timer: asyncio.TimerHandle | None = None
        self.principal: Principal | None = None
        self._holder: Holder | None = None

    def prove(self, token: str, *, beside: str = "") -> Principal:
        """Takes on what the token says. Later tokens must be the same principal's, and so must the one that
        came `beside` it, if it is good.

        Raises:
            Refusal: not a valid token, a revoked one, no right to read, another principal, or too many
                connections; what was proved before still holds.
        """
        principal = self._verified(token)
        if self._revocations.known.include(principal):
            raise revoked()
        if not may_read(principal):
            raise _forbidden("The token lacks the scope orders:read.")
        if beside and self._subject_of(beside) not in (None, principal.subject):
            raise _forbidden("The token is another principal's than that of the handshake.")
        if self.principal is None:
            holder = holder_of(principal)
            self._admission.enter(holder)
            self._holder = holder
        elif principal.subject != self.principal.subject:
            raise _forbidden("The token is another principal's.")
        self.principal = principal
        self._await_expiry(principal)
        return principal

    @property
    def is_revoked(self) -> bool:
        """Whether the token that was proved last has been revoked since."""
        return self.principal is not None and self._revocations.known.include(self.principal)

    def release(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
        if self._holder is not None:
            self._admission.leave(self._holder)

    def _verified(self, token: str) -> Principal:
        if not token:
            detail = "Send a token, in the handshake or in the first message."
            raise Refusal(NOT_AUTHENTICATED, "not authenticated", no_token(detail))
        try:
            return self._verifier.verify(token)
        except TokenError as error:
            raise Refusal(NOT_AUTHENTICATED, "not authenticated", invalid_token(str(error))) from None
        except KeysUnavailable:
            raise Refusal(OVERLOADED, "keys unavailable", KEYS_UNAVAILABLE) from None

    def _subject_of(self, token: str) -> str | None:
        try:
            return self._verifier.verify(token).subject
        except (TokenError, KeysUnavailable):
            return None  # it proves nobody: as if it had not been sent

    def _await_expiry(self, principal: Principal) -> None:
        if self._timer is not None:
            self._timer.cancel()
        left = principal.expires_at - time()
        if left <= 0:
            self._on_expiry()
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(min(left, MAX_TIMER_SECONDS), self._await_expiry, principal)


def revoked() -> Refusal:
    """What the holder of a revoked token is told."""
    return Refusal(NOT_AUTHENTICATED, "revoked", REVOKED)


def handshake_tokens(headers: Headers) -> list[str]:
    """The tokens of a handshake: of the `Authorization` header, and of the subprotocols (all that a browser
    can set). More than one is an attempt to be two.
    """
    tokens = []
    for authorization in headers.get_all("Authorization"):
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer":
            tokens.append(token.strip())
    for header in headers.get_all("Sec-WebSocket-Protocol"):
        names = map(str.strip, header.split(","))
        tokens += [name.removeprefix(BEARER_PREFIX) for name in names if name.startswith(BEARER_PREFIX)]
    return tokens


def _forbidden(detail: str) -> Refusal:
    return Refusal(FORBIDDEN, "forbidden", insufficient_scope(detail, "orders:read"))
