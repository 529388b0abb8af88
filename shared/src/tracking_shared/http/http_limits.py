"""Request limits: the rate and the number of requests in progress, and bodies that are read within bounds."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import Request

from tracking_shared.contracts.access import Principal
from tracking_shared.contracts.problems import Problem, ProblemError
from tracking_shared.http.headers import RATE_LIMIT_KEY
from tracking_shared.policy.limits import ConcurrencyLimit, Holder, LimitReached, RateLimiter, holder_of
from tracking_shared.policy.origins import parse_origins
from tracking_shared.settings import Settings
from tracking_shared.telemetry.metrics import REFUSED

HEAD_BYTES = 32 * 1024
"""Request line and header fields together. A token takes up to 8 KiB of it."""

IN_FLIGHT_KEY = "tracking.in_flight"
"""Key in the scope of a request: the list of holders that it counts for, empty until the caller is known."""

ARRIVED_KEY = "tracking.arrived"
"""Key in the scope of a request that has arrived as a whole: its body is there without waiting."""

STALL_SECONDS = 60.0
"""A peer that takes nothing of what waits for it for so long is disconnected."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits of one process."""

    limiter: RateLimiter | None
    """None: callers are not limited."""
    origins: frozenset[str]
    """Web pages that may call from a browser."""
    max_requests: int
    """In hand at once."""
    in_flight: ConcurrencyLimit
    """Of these, the ones whose caller is known."""
    request_seconds: float
    """In which a request must have arrived, body included."""
    hsts_seconds: int
    """Time for which browsers must come by TLS only; 0: no such rule."""


def http_limits_of(settings: Settings) -> HttpLimits:
    """The limits that the settings ask for."""
    limited = settings.rate_limit_per_second > 0
    return HttpLimits(
        limiter=RateLimiter(settings.rate_limit_per_second, settings.rate_limit_burst) if limited else None,
        origins=parse_origins(settings.allowed_origins),
        max_requests=settings.http_max_requests,
        in_flight=ConcurrencyLimit.with_shares("requests", settings.http_max_requests, settings.shares),
        request_seconds=settings.http_request_seconds,
        hsts_seconds=settings.hsts_seconds,
    )


def http_limits(request: Request) -> HttpLimits:
    """Those of the application that handles the request."""
    limits: HttpLimits = request.app.state.limits
    return limits


def consume_rate_limit(request: Request, principal: Principal, cost: int = 1) -> None:
    """Counts `cost` requests against the caller's rate limit, all of them or none.

    Raises:
        ProblemError: `too-many-requests`.
    """
    limiter = http_limits(request).limiter
    if limiter is None or cost < 1:
        return
    state = limiter.take(principal.subject, cost)
    request.scope[RATE_LIMIT_KEY] = state
    if not state.allowed:
        raise ProblemError(
            "too-many-requests",
            f"Repeat the request in {state.wait_seconds} s.",
            headers={"Retry-After": str(state.wait_seconds)},
        )


def count_in_flight(request: Request, principal: Principal) -> None:
    """Counts the request for its caller until it is answered. Once for each request.

    Raises:
        ProblemError: `too-many-requests`: the caller, or its merchant, has too many in flight.
    """
    counted: list[Holder] | None = request.scope.get(IN_FLIGHT_KEY)
    if counted is None or counted:
        return
    limit, holder = http_limits(request).in_flight, holder_of(principal)
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


DRAINED_BYTES = 8 * 1024 * 1024
"""Read away behind a refusal, so that the connection can be used again. Beyond that it is closed."""


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The body, refused as soon as it is known to be longer than `limit_bytes`, compressed, or too slow.

    Raises:
        ProblemError: `payload-too-large`, `unsupported-media-type`, `request-timeout`.
    """
    _refuse_coding(request)
    declared = int(request.headers.get("content-length", "0"))  # the server has checked that it is a number
    if declared > limit_bytes:
        raise _too_large(limit_bytes, drained=declared <= DRAINED_BYTES)
    if ARRIVED_KEY in request.scope:  # as most are; a time-out costs more than the reading
        return await _read(request, limit_bytes)
    try:
        async with asyncio.timeout(http_limits(request).request_seconds):
            return await _read(request, limit_bytes)
    except TimeoutError:
        raise ProblemError(
            "request-timeout", "The body did not arrive in time.", headers={"Connection": "close"}
        ) from None


async def _read(request: Request, limit_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes, drained=False)
    return bytes(body)


def _refuse_coding(request: Request) -> None:
    # A kilobyte can unpack to a gigabyte. What is bounded by its length must be what was sent.
    codings = ",".join(request.headers.getlist("content-encoding")).replace(" ", "").lower()
    if codings not in ("", "identity"):
        raise ProblemError(
            "unsupported-media-type",
            "Send the body as it is, without a Content-Encoding.",
            headers={"Accept-Encoding": "identity"},
            supported=["identity"],
        )


def _too_large(limit_bytes: int, *, drained: bool) -> ProblemError:
    """`drained`: the rest is little enough to be read away, so that the connection can be used again."""
    return ProblemError(
        "payload-too-large",
        f"The body may have {limit_bytes} bytes.",
        headers={} if drained else {"Connection": "close"},
        limit_bytes=limit_bytes,
    )


def media_type_of(request: Request, *supported: str) -> str:
    """The media type of the body, one of `supported`. JSON is UTF-8, whatever its sender calls it.

    Raises:
        ProblemError: `unsupported-media-type`: another one, more than one, or another charset.
    """
    headers = request.headers.getlist("content-type")
    media_type, _, parameters = (headers[0] if len(headers) == 1 else "").partition(";")
    media_type = media_type.strip().lower()
    if media_type not in supported or not _is_utf_8(parameters):
        raise ProblemError(
            "unsupported-media-type", f"Send {' or '.join(supported)}, in UTF-8.", supported=list(supported)
        )
    return media_type


def _is_utf_8(parameters: str) -> bool:
    values = [
        value.strip().strip('"').lower()
        for name, _, value in (parameter.partition("=") for parameter in parameters.split(";"))
        if name.strip().lower() == "charset"
    ]
    return all(value in ("utf-8", "utf8") for value in values)
