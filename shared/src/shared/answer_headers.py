"""The headers that belong to every answer."""

from starlette.types import Message, Scope, Send

from shared.rate_limits import Standing, rate_limit_field

RawHeaders = list[tuple[bytes, bytes]]

_VARY = b"vary"

STANDING_KEY = "tracking.standing"
"""Where the scope of a request keeps what its caller has left."""


class AnswerHeaders:
    """What is sent, with the headers that belong to every answer and that it does not have of its own."""

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
        standing: Standing | None = self._scope.get(STANDING_KEY)
        if standing is None:
            return []
        limiter = self._scope["app"].state.edges.limiter
        return [
            (b"ratelimit-policy", limiter.policy.encode()),
            (b"ratelimit", rate_limit_field(standing).encode()),
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
    """What every answer says to browsers, unless it says otherwise itself, as a page does."""
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
