"""Problem documents (RFC 9457): the one catalogue of everything that can be refused."""

from dataclasses import dataclass, field
from typing import Any, Self

PROBLEM_MEDIA_TYPE = "application/problem+json"

CATALOGUE: dict[str, tuple[int, str]] = {
    "malformed-json": (400, "The body is not valid JSON"),
    "malformed-request": (400, "The request is not valid HTTP"),
    "invalid-cursor": (400, "The cursor is not one of ours"),
    "unauthenticated": (401, "A valid token is required"),
    "forbidden": (403, "The token does not allow this"),
    "order-not-found": (404, "There is no such order"),
    "update-not-found": (404, "There is no such update"),
    "not-found": (404, "There is no such resource"),
    "method-not-allowed": (405, "The resource does not support this method"),
    "not-acceptable": (406, "None of the accepted media types can be produced"),
    "request-timeout": (408, "The request did not arrive in time"),
    "order-exists": (409, "The order exists already"),
    "invalid-transition": (409, "The order cannot go to this status from where it stands"),
    "version-conflict": (409, "The order is not at the expected version"),
    "cursor-expired": (410, "The log no longer holds this position"),
    "precondition-failed": (412, "The order is not as the request asks it to be"),
    "payload-too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The media type of the body is not supported"),
    "validation-failed": (422, "The request breaks a rule"),
    "idempotency-key-reused": (422, "The idempotency key was used for another request"),
    "upgrade-required": (426, "The resource is a WebSocket"),
    "too-many-requests": (429, "Too many requests"),
    "headers-too-large": (431, "The request line and the header fields are too large"),
    "internal-error": (500, "Something went wrong on our side"),
    "broker-unavailable": (503, "The message broker cannot take the update now"),
    "database-unavailable": (503, "The database cannot answer now"),
    "keys-unavailable": (503, "Tokens cannot be verified yet"),
    "overloaded": (503, "Too much is in hand already"),
}
"""Slug → (HTTP status, title)."""

CHALLENGE = 'Bearer realm="tracking"'
"""What to authenticate with (RFC 6750, section 3)."""

RETRY_AFTER_SECONDS = 2
"""What a 429 or 503 asks callers to wait: longer than the first reconnects take."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One refusal as a value: a `slug` of the catalogue, a sentence, and members of its own."""

    slug: str
    detail: str
    members: dict[str, Any] = field(default_factory=dict)
    own_headers: dict[str, str] = field(default_factory=dict)
    """HTTP headers beside, or instead of, those that go with the status."""

    @property
    def status(self) -> int:
        """The HTTP status that goes with the slug."""
        return CATALOGUE[self.slug][0]

    def document(self, instance: str | None = None, trace_id: str | None = None) -> dict[str, Any]:
        """The RFC 9457 document. `instance` is the path of the request that was refused."""
        status, title = CATALOGUE[self.slug]
        document: dict[str, Any] = {
            "type": f"/problems/{self.slug}",
            "title": title,
            "status": status,
            "detail": self.detail,
        }
        if instance is not None:
            document["instance"] = instance
        if trace_id is not None:
            document["trace_id"] = trace_id
        return document | self.members

    def headers(self) -> dict[str, str]:
        """The HTTP headers that the status requires: a challenge for 401, a wait for 429 and 503."""
        headers: dict[str, str] = {}
        if self.status == 401:
            headers["WWW-Authenticate"] = CHALLENGE
        if self.status in (429, 503):
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return headers | self.own_headers


class ProblemError(Exception):
    """Ends the handling of a request with a problem. Raised at the edges only."""

    def __init__(
        self, slug: str, detail: str, *, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(slug, detail, members, headers or {})

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """The error that tells this problem."""
        return cls(problem.slug, problem.detail, headers=problem.own_headers, **problem.members)


def validation_problem(errors: list[dict[str, str]]) -> Problem:
    """A `validation-failed` problem for a list of ``{pointer, message}``."""
    return Problem("validation-failed", "The request breaks a rule; see errors.", {"errors": errors})
