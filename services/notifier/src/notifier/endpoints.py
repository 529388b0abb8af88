"""Health, readiness, metrics and the description of the stream over plain HTTP, on its port."""

import asyncio
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import orjson
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from notifier.asyncapi import encoded_document
from shared.answer_headers import always_sent
from shared.health import Check, failing_checks
from shared.metrics import METRICS_MEDIA_TYPE, render_metrics
from shared.problems import PROBLEM_MEDIA_TYPE, Problem
from shared.tracing import trace_id_of

_ALWAYS = {name.decode(): value.decode() for name, value in always_sent(hsts_seconds=0)}

_FOR_ANY_PAGE = {"cross-origin-resource-policy": "cross-origin"}
"""With this, a page of any origin learns that this answers, and nothing of what: without it, the page of an
origin that is not allowed cannot tell a refusal from a server that is away."""

_PATHS = ("/healthz", "/readyz", "/metrics", "/asyncapi.json")

NOT_ALLOWED = Problem("method-not-allowed", "Use GET.", own_headers={"Allow": "GET, HEAD"})


async def answer(request: Request, checks: dict[str, Check]) -> Response:
    """The answer to a request that is not for the stream."""
    path = request.path.partition("?")[0]
    if path not in _PATHS:
        return refusal(Problem("not-found", f"There is nothing at {path[:200]}."), request)
    if request.method not in ("GET", "HEAD"):
        return refusal(NOT_ALLOWED, request)
    if path == "/healthz":
        return _json(HTTPStatus.OK, {"status": "ok"}, **_FOR_ANY_PAGE)
    if path == "/metrics":
        return _response(HTTPStatus.OK, METRICS_MEDIA_TYPE, render_metrics())
    if path == "/asyncapi.json":
        # Made at the first request, in 60 ms: too long to hold up the stream.
        return _response(HTTPStatus.OK, "application/json", await asyncio.to_thread(encoded_document))
    failing = await failing_checks(checks)
    return _json(
        HTTPStatus.SERVICE_UNAVAILABLE if failing else HTTPStatus.OK,
        {"status": _status(set(failing)), "failing": failing},
    )


def _status(failing: set[str]) -> str:
    if not failing:
        return "ok"
    # Without the broker, events are late and come all the same: see `feed`.
    return "degraded" if failing == {"broker"} else "unavailable"


def refusal(problem: Problem, request: Request | None = None) -> Response:
    """The answer to a request that is refused; without `request`, to one that could not be read."""
    path, traceparent = None, None
    if request is not None:
        path = request.path.partition("?")[0][:200]
        traceparent = next(iter(request.headers.get_all("traceparent")), None)
    body = orjson.dumps(problem.document(path, trace_id_of(traceparent)))
    return _response(HTTPStatus(problem.status), PROBLEM_MEDIA_TYPE, body, **problem.headers())


def for_head(_connection: ServerConnection, request: Request, response: Response) -> None:
    """Takes the body away from what answers HEAD, and leaves its length told."""
    if request.method == "HEAD":
        response.body = b""


def _json(status: HTTPStatus, document: dict[str, Any], **headers: str) -> Response:
    return _response(status, "application/json", orjson.dumps(document), **headers)


def _response(status: HTTPStatus, content_type: str, body: bytes, **headers: str) -> Response:
    always = _ALWAYS | {
        "Content-Type": content_type,
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Date": formatdate(usegmt=True),
    }
    return Response(status.value, status.phrase, Headers(always | headers), body)
