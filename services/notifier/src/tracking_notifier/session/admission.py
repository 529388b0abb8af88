"""Decides who may use the stream: limits of connections and of messages, and the identity of a connection."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import time

from tracking_notifier.errors import Refusal
from tracking_notifier.metrics import CONNECTIONS
from tracking_notifier.stream.stream_messages import FORBIDDEN, NOT_AUTHENTICATED, OVERLOADED, TOO_MANY
from tracking_shared.auth.keys import KeysUnavailable
from tracking_shared.auth.revocations import RevocationList
from tracking_shared.auth.tokens import TokenError, TokenVerifier
from tracking_shared.contracts.access import Principal, may_read
from tracking_shared.contracts.problems import Problem
from tracking_shared.http.callers import (
    KEYS_UNAVAILABLE,
    REVOKED,
    insufficient_scope,
    invalid_token,
    no_token,
)
from tracking_shared.http.http_limits import refusal_of
from tracking_shared.policy.limits import (
    ConcurrencyLimit,
    Holder,
    LimitReached,
    Shares,
    TokenBucket,
    holder_of,
)
from tracking_shared.telemetry.metrics import REFUSED

MESSAGES_PER_SECOND = 5.0
MESSAGES_AT_ONCE = 20
"""A person who changes filters sends a few in a minute; a subscribe with a snapshot costs milliseconds."""

RESYNCS_AT_ONCE = 3
RESYNCS_PER_SECOND = 1 / 60
"""Limit for a connection that falls behind. Each costs a snapshot; a client that needs more cannot keep
up."""

MAX_TIMER_SECONDS = 3600.0
"""The timer of a distant expiry is renewed after this time, so that a change of the clock is noticed."""


class Admission:
    """Limits the connections of this process: in all, per principal, and per merchant."""

    def __init__(self, max_connections: int, max_per_principal: int | None, shares: Shares) -> None:
        """If `max_per_principal` is None, it is the principal's share of all connections."""
        per_principal, per_merchant = shares.of(max_connections)
        self._max_connections = max_connections
        self._connections = 0
        self._authenticated = ConcurrencyLimit(
            "connections", max_connections, max_per_principal or per_principal, per_merchant
        )

    @contextmanager
    def connection(self) -> Iterator[None]:
        """Counts a connection until the end of the body.

        Raises:
            Refusal: there are too many.
        """
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def enter(self) -> None:
        """Counts a connection.

        Raises:
            Refusal: there are too many.
        """
        if self._connections >= self._max_connections:
            REFUSED.labels("connections", "all").inc()
            raise _too_many(f"The server takes {self._max_connections} connections.")
        self._connections += 1
        CONNECTIONS.inc()

    def leave(self) -> None:
        """The reverse of `enter`."""
        self._connections -= 1
        CONNECTIONS.dec()

    def acquire(self, holder: Holder) -> None:
        """Counts a connection for its principal and merchant, once they are known.

        Raises:
            Refusal: one of them has too many.
        """
        try:
            self._authenticated.acquire(holder)
        except LimitReached as reached:
            raise Refusal(TOO_MANY, "too many", refusal_of(self._authenticated, reached)) from None

    def release(self, holder: Holder) -> None:
        """The reverse of `acquire`."""
        self._authenticated.release(holder)


class MessageRate:
    """The rate limit of the messages of one connection."""

    __slots__ = ("_bucket",)

    def __init__(self, now: float) -> None:
        self._bucket = TokenBucket(MESSAGES_AT_ONCE, MESSAGES_PER_SECOND, now)

    def consume(self, now: float) -> None:
        """Counts a message that arrives at `now` (seconds of a monotonic clock).

        Raises:
            Refusal: the client sends too fast.
        """
        if not self._bucket.take(now).allowed:
            raise _too_many(f"Send at most {MESSAGES_PER_SECOND:g} messages per second.")


def _too_many(detail: str) -> Refusal:
    return Refusal(TOO_MANY, "too many", Problem("too-many-requests", detail))


class Identity:
    """The principal of one connection, from its first valid token on. It ends when the newest token expires
    or is revoked.
    """

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

    def authenticate(self, token: str, *, other_token: str = "") -> Principal:
        """Verifies a token and replaces the one before. All tokens of a connection must have the same
        subject; so must `other_token`, which may come from the handshake, if it is valid.

        Raises:
            Refusal: the token is not valid, is revoked, does not allow reading, or is of another subject, or
                there are too many connections. The token before remains valid.
        """
        principal = self._verify(token)
        if self._revocations.known.include(principal):
            raise revoked_token()
        if not may_read(principal):
            raise _forbidden("The token lacks the scope orders:read.")
        if other_token and self._subject_of(other_token) not in (None, principal.subject):
            raise _forbidden("The token is another principal's than that of the handshake.")
        if self.principal is None:
            holder = holder_of(principal)
            self._admission.acquire(holder)
            self._holder = holder
        elif principal.subject != self.principal.subject:
            raise _forbidden("The token is another principal's.")
        self.principal = principal
        self._schedule_expiry(principal)
        return principal

    @property
    def is_revoked(self) -> bool:
        """True if the newest token has been revoked."""
        return self.principal is not None and self._revocations.known.include(self.principal)

    def release(self) -> None:
        """Stops the timer, and no longer counts the connection."""
        if self._timer is not None:
            self._timer.cancel()
        if self._holder is not None:
            self._admission.release(self._holder)

    def _verify(self, token: str) -> Principal:
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
            return None  # a token that is not valid is ignored

    def _schedule_expiry(self, principal: Principal) -> None:
        if self._timer is not None:
            self._timer.cancel()
        remaining = principal.expires_at - time()
        if remaining <= 0:
            self._on_expiry()
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(min(remaining, MAX_TIMER_SECONDS), self._schedule_expiry, principal)


def revoked_token() -> Refusal:
    """Makes the refusal of a revoked token."""
    return Refusal(NOT_AUTHENTICATED, "revoked", REVOKED)


def _forbidden(detail: str) -> Refusal:
    return Refusal(FORBIDDEN, "forbidden", insufficient_scope(detail, "orders:read"))
