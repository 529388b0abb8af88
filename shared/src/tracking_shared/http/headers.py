"""The headers of every answer, and the entity tags of `If-Match` (RFC 9110, sections 8.8.3 and 13.1.1)."""

import re
from collections.abc import Sequence

from starlette.types import Message, Scope, Send

from tracking_shared.contracts.identifiers import MAX_IDENTIFIER_CHARACTERS, is_identifier
from tracking_shared.contracts.problems import ProblemError
from tracking_shared.policy.limits import RateLimitState, rate_limit_field

RawHeaders = list[tuple[bytes, bytes]]

_VARY = b"vary"

RATE_LIMIT_KEY = "tracking.rate_limit"
"""Key in the scope of a request: the rate limit state of its caller."""


class AnswerHeaders:
    """Adds the headers of every answer to what is sent, unless it has its own."""

    def __init__(self, scope: Scope, send: Send, extra: RawHeaders) -> None:
        self._scope = scope
        self._send = send
        self._extra = extra
        self.status = 500
        self.begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            self.status = message["status"]
            message["headers"] = [*_merged(list(message["headers"]), self._extra), *self._limits()]
        await self._send(message)

    def _limits(self) -> RawHeaders:
        state: RateLimitState | None = self._scope.get(RATE_LIMIT_KEY)
        if state is None:
            return []
        limiter = self._scope["app"].state.limits.limiter
        return [
            (b"ratelimit-policy", limiter.policy.encode()),
            (b"ratelimit", rate_limit_field(state).encode()),
        ]


def _merged(own: RawHeaders, extra: RawHeaders) -> RawHeaders:
    """`own`, and what of `extra` it does not have. What an answer varies with adds up (RFC 9110, 12.5.5)."""
    names = {name for name, _ in own}
    added = [header for header in extra if header[0] not in names]
    if _VARY not in names:
        return own + added
    varies = [value for name, value in (*own, *extra) if name == _VARY]
    return [*(header for header in own if header[0] != _VARY), *added, (_VARY, b", ".join(varies))]


def always_sent(hsts_seconds: int) -> RawHeaders:
    """Security headers of every answer that does not have its own, as a page does."""
    always = [
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
        (b"cross-origin-resource-policy", b"same-origin"),
    ]
    if hsts_seconds:
        always.append((b"strict-transport-security", f"max-age={hsts_seconds}; includeSubDomains".encode()))
    return always


_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
IF_MATCH_PATTERN = rf"^(?:\*|{_TAG}(?:[ \t]*,[ \t]*{_TAG})*)$"
"""Of a whole field. An empty one is none: who sends it cannot mean that any state of the order will do."""

_FIELD = re.compile(IF_MATCH_PATTERN)


def tags_of(fields: Sequence[str]) -> list[str] | None:
    """The tags that one of must match, weak ones with their `W/`; None: there need only be something (`*`).

    Raises:
        ProblemError: `validation-failed`: neither tags nor `*`.
    """
    field = ",".join(fields).strip(" \t")
    if _FIELD.match(field) is None:
        message = "must be entity tags, as ETag has them, or *."
        errors = [{"pointer": "/headers/if-match", "message": message}]
        raise ProblemError("validation-failed", f"If-Match {message}", errors=errors)
    return None if field == "*" else re.findall(_TAG, field)


def idempotency_key_of(headers: Sequence[str], most: int = MAX_IDENTIFIER_CHARACTERS) -> str:
    """The `Idempotency-Key` (plain, or an RFC 8941 string) in at least one field.

    Raises:
        ProblemError: `validation-failed`: not an identifier, longer than `most`, or sent twice.
    """
    key = headers[0].strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(headers) > 1 or len(key) > most or not is_identifier(key):
        message = f"Send one Idempotency-Key of 1 to {most} of A-Z a-z 0-9 . _ : -, a letter or digit first."
        raise ProblemError(
            "validation-failed", message, errors=[{"pointer": "/headers/idempotency-key", "message": message}]
        )
    return key
