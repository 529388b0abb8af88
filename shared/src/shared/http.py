"""What every HTTP service has in common: problem documents, health, metrics, trace ids, bounds."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus
from time import perf_counter
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.answer_headers import AnswerHeaders, RawHeaders, always_sent
from shared.broker import BrokerUnavailable
from shared.concurrency_limits import Holder
from shared.database import DatabaseUnavailable
from shared.edges import IN_HAND_KEY, Edges, edges_of
from shared.health import Check, failing_checks
from shared.logs import PacedLog, trace_id_var
from shared.metrics import METRICS_MEDIA_TYPE, REFUSED, REQUEST_SECONDS, REQUESTS, render_metrics
from shared.origins import cross_origin_headers, preflight_headers
from shared.problems import PROBLEM_MEDIA_TYPE, Problem, ProblemError, validation_problem
from shared.request_heads import host_fault
from shared.settings import Settings
from shared.tracing import trace_id_of
from shared.validation_messages import message_of

log = logging.getLogger(__name__)

MAX_ERRORS_TOLD = 20
"""Errors listed in one `validation-failed` problem; a batch of nonsense must not become a megabyte."""

NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own asks at each request whether anybody wants it. Trace ids and metrics here are ours."""

CLIENT_GONE = 499
"""What is counted for a request whose sender left before it had arrived: nobody is answered."""

_HEAD_KEY = "tracking.head"
"""In the scope of a request by HEAD."""

_PREFLIGHT = (b"origin", b"access-control-request-method")
_NEVER_REFUSED = frozenset({"/healthz", "/readyz", "/metrics"})
"""Who is overloaded must still be able to say so."""

Handler = Callable[[Request, Exception], Awaitable[Response]]


class JsonResponse(Response):
    """JSON through orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


_failures = PacedLog(log)


def log_failure(slug: str, reason: object) -> None:
    """Logs that a request, or a part of it, could not be done, unless a line of this second says so."""
    _failures.warning(slug, reason)


def problem_response(request: Request, problem: Problem, reason: object = None) -> Response:
    """The problem as an HTTP answer. One of ours is logged, with the reason or else the detail."""
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log_failure(problem.slug, reason or problem.detail)
    return _response_of(request, problem)


def _response_of(request: Request, problem: Problem) -> Response:
    document = problem.document(request.scope["path"], trace_id_var.get())
    return Response(orjson.dumps(document), problem.status, problem.headers(), PROBLEM_MEDIA_TYPE)


def head_only(request: Request) -> bool:
    """Whether only the head of the answer will be sent: the request came by HEAD, and is served as a GET."""
    return _HEAD_KEY in request.scope


def pointer_errors(error: ValidationError | RequestValidationError, skip: int = 0) -> list[dict[str, str]]:
    """Pydantic's errors as ``{pointer, message}`` (JSON pointers, RFC 6901), bounded, without the input."""
    errors: Sequence[Any] = error.errors(**_BARE) if isinstance(error, ValidationError) else error.errors()
    return [
        {"pointer": "".join(f"/{_escape(part)}" for part in e["loc"][skip:]), "message": message_of(e)}
        for e in errors[:MAX_ERRORS_TOLD]
    ]


_BARE: Any = {"include_url": False, "include_context": False, "include_input": False}
"""Half the work of telling what is wrong."""


def _escape(part: object) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")[:200]


def install_plumbing(app: FastAPI, settings: Settings, checks: Callable[[], dict[str, Check]]) -> None:
    """Adds what every HTTP service has: `/healthz`, `/readyz`, `/metrics`, problem documents, trace ids,
    security headers, and the bounds that the settings ask for.

    `checks` gives the dependencies to ask; it is called at each `/readyz`.
    """

    @app.get("/healthz", tags=["operations"], summary="The process is alive")
    async def healthz() -> Response:
        return JsonResponse({"status": "ok"})

    @app.get("/readyz", tags=["operations"], summary="The dependencies answer")
    async def readyz() -> Response:
        failing = await failing_checks(checks())
        return JsonResponse(
            {"status": "unavailable" if failing else "ok", "failing": failing}, 503 if failing else 200
        )

    @app.get("/metrics", tags=["operations"], summary="Prometheus metrics")
    async def metrics() -> Response:
        return Response(render_metrics(), media_type=METRICS_MEDIA_TYPE)

    for kind, handler in _handlers().items():
        app.add_exception_handler(kind, handler)
    app.state.edges = edges = edges_of(settings)
    app.add_middleware(_Plumbing, edges=edges)


def problems_answered(handler: Callable[..., Awaitable[Response]]) -> ASGIApp:
    """`handler`, called with a request and the parameters of its path, as an application of its own, whose
    errors are told as those of a service are.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await handler(Request(scope, receive), **scope["path_params"])
        await response(scope, receive, send)

    return ExceptionMiddleware(app, handlers=_handlers())


def _handlers() -> dict[type[Exception], Handler]:
    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)  # noqa: S101 - registered for this type only
        return problem_response(request, error.problem)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type only
        return problem_response(request, validation_problem(pointer_errors(error)))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type only
        response = problem_response(request, _problem_of_status(error.status_code, request))
        response.headers.update(error.headers or {})
        if response.headers.get("allow") == "GET":
            response.headers["allow"] = "GET, HEAD"
        return response

    async def on_database(request: Request, error: Exception) -> Response:
        problem = Problem("database-unavailable", "Repeat the request a little later.")
        return problem_response(request, problem, error)

    async def on_broker(request: Request, error: Exception) -> Response:
        problem = Problem("broker-unavailable", "Repeat the request a little later.")
        return problem_response(request, problem, error)

    return {
        ProblemError: on_problem,
        RequestValidationError: on_invalid,
        HTTPException: on_http,
        DatabaseUnavailable: on_database,
        BrokerUnavailable: on_broker,
    }


def _problem_of_status(status: int, request: Request) -> Problem:
    if status == HTTPStatus.NOT_FOUND:
        return Problem("not-found", f"There is nothing at {request.scope['path'][:200]}.")
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return Problem("method-not-allowed", f"{request.method} is not supported here; see Allow.")
    if status == HTTPStatus.BAD_REQUEST:
        return Problem("malformed-json", "The request cannot be read.")
    return Problem("internal-error", "The request could not be handled.")


class _Plumbing:
    """The outermost layer: trace id, counters, security headers, the bound of what is in hand, and the last
    resort for our own faults.
    """

    def __init__(self, app: ASGIApp, edges: Edges) -> None:
        self._app = app
        self._edges = edges
        self._in_hand = 0
        self._always = always_sent(edges.hsts_seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        if method == "HEAD":  # the server, whose scope is another one, sends no body in answer to it
            scope = {**scope, "method": "GET", _HEAD_KEY: True}
        started = perf_counter()
        trace_id = trace_id_of(_header(scope["headers"], b"traceparent"))
        token = trace_id_var.set(trace_id)
        answer = AnswerHeaders(scope, send, self._extra_headers(scope, trace_id))
        counted: list[Holder] = []
        scope[IN_HAND_KEY] = counted
        self._in_hand += 1
        try:
            await self._choose(scope)(scope, receive, answer.send)
        except ClientDisconnect:
            answer.status = CLIENT_GONE
        except Exception:
            log.exception("unhandled fault")
            if not answer.begun:
                problem = Problem("internal-error", "The fault is logged under the trace id.")
                await _response_of(Request(scope), problem)(scope, receive, answer.send)
        finally:
            self._in_hand -= 1
            for holder in counted:
                self._edges.in_hand.release(holder)
            REQUESTS.labels(method, answer.status).inc()
            REQUEST_SECONDS.observe(perf_counter() - started)
            trace_id_var.reset(token)

    def _choose(self, scope: Scope) -> ASGIApp:
        """Who answers: the application, unless it need not be asked or has too much in hand."""
        if scope["method"] == "OPTIONS":
            origin, asked = (_header(scope["headers"], name) for name in _PREFLIGHT)
            headers = preflight_headers(self._edges.origins, origin, asked)
            if headers is not None:
                return Response(status_code=204, headers={k.decode(): v.decode() for k, v in headers})
        fault = host_fault(scope["http_version"], _all(scope["headers"], b"host"))
        if fault is not None:
            return problem_response(Request(scope), Problem("malformed-request", fault))
        if self._in_hand > self._edges.max_requests and scope["path"] not in _NEVER_REFUSED:
            REFUSED.labels("requests", "all").inc()
            problem = Problem("overloaded", "Repeat the request a little later.")
            return problem_response(Request(scope), problem)
        return self._app

    def _extra_headers(self, scope: Scope, trace_id: str) -> RawHeaders:
        if not self._edges.origins:
            return [*self._always, (b"trace-id", trace_id.encode())]
        origin = _header(scope["headers"], b"origin")
        return [
            *self._always,
            (b"trace-id", trace_id.encode()),
            *cross_origin_headers(self._edges.origins, origin),
        ]


def _all(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key == name]


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in headers if key == name), None)
