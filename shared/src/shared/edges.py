"""What an HTTP service lets in and how much of it, made of its settings once."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import Request

from shared.access import Principal
from shared.answer_headers import STANDING_KEY
from shared.concurrency_limits import ConcurrencyLimit, Holder, LimitReached, holder_of
from shared.metrics import REFUSED
from shared.origins import parse_origins
from shared.problems import Problem, ProblemError
from shared.rate_limits import RateLimiter
from shared.settings import Settings

HEAD_BYTES = 32 * 1024
"""Request line and header fields together. A token takes up to 8 KiB of it."""

IN_HAND_KEY = "tracking.in_hand"
"""Where the scope of a request keeps for whom it is counted: a list, empty until the caller is known."""

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
    in_hand: ConcurrencyLimit
    """Of these, the ones whose caller is known."""
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
        in_hand=ConcurrencyLimit.with_shares("requests", settings.http_max_requests, settings.shares),
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


def count_in_hand(request: Request, principal: Principal) -> None:
    """Counts the request for its caller until it is answered. Once for each request.

    Raises:
        ProblemError: `too-many-requests`: the caller, or its merchant, has too many in hand.
    """
    counted: list[Holder] | None = request.scope.get(IN_HAND_KEY)
    if counted is None or counted:
        return
    limit, holder = edges_in(request).in_hand, holder_of(principal)
    try:
        limit.acquire(holder)
    except LimitReached as reached:
        raise _refused(limit, reached) from None
    counted.append(holder)


@contextmanager
def within(limit: ConcurrencyLimit, principal: Principal) -> Iterator[None]:
    """Counts the body for the caller.

    Raises:
        ProblemError: `too-many-requests`: the caller, or its merchant, has too many of them; `overloaded`:
            all callers together have.
    """
    holder = holder_of(principal)
    try:
        limit.acquire(holder)
    except LimitReached as reached:
        raise _refused(limit, reached) from None
    try:
        yield
    finally:
        limit.release(holder)


def refusal_of(limit: ConcurrencyLimit, reached: LimitReached) -> Problem:
    """The problem for whoever found no room, which is counted."""
    REFUSED.labels(limit.name, reached.exceeded).inc()
    if reached.exceeded == "all":
        return Problem("overloaded", f"All {reached.bound} {limit.name} at once are taken; repeat it later.")
    bound = f"One {reached.exceeded} may have {reached.bound} {limit.name} at once"
    return Problem("too-many-requests", f"{bound}; repeat it when one has ended.")


def _refused(limit: ConcurrencyLimit, reached: LimitReached) -> ProblemError:
    problem = refusal_of(limit, reached)
    return ProblemError(problem.slug, problem.detail)
