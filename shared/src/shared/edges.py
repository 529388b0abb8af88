"""What an HTTP service lets in and how much of it, made of its settings once."""

from dataclasses import dataclass

from fastapi import Request

from shared.access import Principal
from shared.answer_headers import STANDING_KEY
from shared.origins import parse_origins
from shared.problems import ProblemError
from shared.rate_limits import RateLimiter
from shared.settings import Settings

HEAD_BYTES = 32 * 1024
"""Request line and header fields together. A token takes up to 8 KiB of it."""

STALL_SECONDS = 60.0
"""How long a peer may take nothing of what waits for it before its connection is cut."""


@dataclass(frozen=True, slots=True)
class Edges:
    """The bounds of one process."""

    limiter: RateLimiter | None
    """None: callers are not limited."""
    origins: frozenset[str]
    """Web pages that may call from a browser."""
    max_requests: int
    """In hand at once."""
    request_seconds: float
    """In which a request must have arrived, body included."""
    hsts_seconds: int
    """For how long browsers are told to come by TLS only; 0: they are not told."""


def edges_of(settings: Settings) -> Edges:
    """The bounds that the settings ask for."""
    limited = settings.rate_limit_per_second > 0
    return Edges(
        limiter=RateLimiter(settings.rate_limit_per_second, settings.rate_limit_burst) if limited else None,
        origins=parse_origins(settings.allowed_origins),
        max_requests=settings.http_max_requests,
        request_seconds=settings.http_request_seconds,
        hsts_seconds=settings.hsts_seconds,
    )


def edges_in(request: Request) -> Edges:
    """Those of the application that handles the request."""
    edges: Edges = request.app.state.edges
    return edges


def charge(request: Request, principal: Principal, cost: int = 1) -> None:
    """Counts `cost` requests against the caller's rate limit, all of them or none.

    Raises:
        ProblemError: `too-many-requests`.
    """
    limiter = edges_in(request).limiter
    if limiter is None or cost < 1:
        return
    standing = limiter.take(principal.subject, cost)
    request.scope[STANDING_KEY] = standing
    if not standing.allowed:
        raise ProblemError(
            "too-many-requests",
            f"Repeat the request in {standing.wait_seconds} s.",
            headers={"Retry-After": str(standing.wait_seconds)},
        )
