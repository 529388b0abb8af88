"""The common parts of all HTTP services: problem documents, health, metrics, trace ids, limits."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus
from secrets import token_hex
from time import perf_counter, time_ns
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from tracking_shared.contracts.identifiers import (
    IDENTIFIER_PATTERN,
    IDENTIFIER_RULE,
    SUBJECT_PATTERN,
    SUBJECT_RULE,
)
from tracking_shared.contracts.problems import PROBLEM_MEDIA_TYPE, Problem, ProblemError, validation_problem
from tracking_shared.contracts.texts import CONTROL_FREE_PATTERN, CONTROL_FREE_RULE
from tracking_shared.http.described_routes import Answer, Content, FastRoute, described
from tracking_shared.http.headers import AnswerHeaders, RawHeaders, always_sent
from tracking_shared.http.health import Check, failing_checks
from tracking_shared.http.http_limits import IN_FLIGHT_KEY, HttpLimits, http_limits_of
from tracking_shared.http.request_parser import host_fault, path_as_sent
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.policy.limits import Holder
from tracking_shared.policy.origins import cross_origin_headers, preflight_headers
from tracking_shared.settings import Settings
from tracking_shared.storage.database import DatabaseUnavailable
from tracking_shared.telemetry.logs import PacedLog, trace_id_var
from tracking_shared.telemetry.metrics import (
    METRICS_MEDIA_TYPE,
    REFUSED,
    REQUEST_SECONDS,
    REQUESTS,
    render_metrics,
)
from tracking_shared.telemetry.spans import SpanContext, Spans, context_of, request_span, trace_id_of

_OWN_WORDS = "Value error, "
"""Pydantic puts it before the message of a rule of ours."""

_RULES = {
    f"String should match pattern '{pattern}'": f"must be {rule}"
    for pattern, rule in (
        (IDENTIFIER_PATTERN, IDENTIFIER_RULE),
        (SUBJECT_PATTERN, SUBJECT_RULE),
        (CONTROL_FREE_PATTERN, CONTROL_FREE_RULE),
    )
}

_OTHER_FORM = "has a form that is not taken here"


def message_of(error: dict[str, Any]) -> str:
    """The message of one of pydantic's errors, in words for the sender of the value."""
    message: str = error["msg"]
    if error["type"] == "value_error":
        return message.removeprefix(_OWN_WORDS)
    return _RULES.get(message, _OTHER_FORM) if error["type"] == "string_pattern_mismatch" else message


log = logging.getLogger(__name__)

MAX_LISTED_ERRORS = 20
"""Errors listed in one `validation-failed` problem; a batch of nonsense must not become a megabyte."""

_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own asks at each request whether anybody wants it. Trace ids and metrics here are ours."""

CLIENT_GONE = 499
"""Counted as the status of a request whose sender left before it had arrived: nobody is answered."""

_HEAD_KEY = "tracking.head"
"""In the scope of a request by HEAD."""

_PREFLIGHT = (b"origin", b"access-control-request-method")
NEVER_REFUSED = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths for those who run the service: one that is overloaded must still be able to say so."""

_READINESS = {"$ref": "#/components/schemas/Readiness"}
_NOT_READY = {"status": "unavailable", "failing": {"database": "DatabaseUnavailable"}}
_METRICS_EXAMPLE = 'tracking_http_requests_total{method="GET",status="200"} 17.0\n'

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
    document = problem.document(path_as_sent(request.scope), trace_id_var.get())
    return Response(orjson.dumps(document), problem.status, problem.headers(), PROBLEM_MEDIA_TYPE)


def head_only(request: Request) -> bool:
    """True if only the head of the answer will be sent: the request came by HEAD, and is served as a GET."""
    return _HEAD_KEY in request.scope


def pointer_errors(error: ValidationError | RequestValidationError, skip: int = 0) -> list[dict[str, str]]:
    """Pydantic's errors as ``{pointer, message}`` (JSON pointers, RFC 6901), bounded, without the input."""
    errors: Sequence[Any] = error.errors(**_BARE) if isinstance(error, ValidationError) else error.errors()
    return [
        {"pointer": "".join(f"/{_escape(part)}" for part in e["loc"][skip:]), "message": message_of(e)}
        for e in errors[:MAX_LISTED_ERRORS]
    ]


_BARE: Any = {"include_url": False, "include_context": False, "include_input": False}
"""Half the work of telling what is wrong."""


def _escape(part: object) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")[:200]


def service_app(name: str, summary: str) -> FastAPI:
    """An application without routes. Those that are added to it are `FastRoute`s, in the order in which they
    are looked through: the ones that are asked most come first.
    """
    app = _ServiceApp(
        title=name,
        summary=summary,
        version="1",
        openapi_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
    )
    app.router.route_class = FastRoute
    return app


class _ServiceApp(FastAPI):
    """FastAPI without those of its layers that do nothing here and cost each request: our plumbing answers
    faults, bodies have bounds of their own, and a `FastRoute` opens what FastAPI's own way needs.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await Starlette.__call__(self, scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """Called once, at the first request."""
        app: ASGIApp = ExceptionMiddleware(self.router, handlers=self.exception_handlers)
        for middleware, arguments, options in reversed(self.user_middleware):
            app = middleware(app, *arguments, **options)
        return app


def install_plumbing(
    app: FastAPI, settings: Settings, checks: Callable[[], dict[str, Check]], spans: Spans | None = None
) -> None:
    """Adds what every HTTP service has: `/healthz`, `/readyz`, `/metrics`, problem documents, trace ids,
    security headers, and the bounds that the settings ask for.

    `checks` gives the dependencies to ask; it is called at each `/readyz`. `spans` takes one for each `POST`.
    """

    @app.get("/healthz", tags=["operations"], summary="The process is alive")
    @described(
        Answer(200, "It is alive", [Content({"const": {"status": "ok"}}, {"status": "ok"})]),
        name="get_health",
    )
    async def healthz() -> Response:
        return JsonResponse({"status": "ok"})

    @app.get("/readyz", tags=["operations"], summary="The dependencies answer")
    @described(
        Answer(200, "It can serve", [Content(_READINESS, {"status": "ok", "failing": {}})]),
        Answer(503, "What it depends on does not answer", [Content(_READINESS, _NOT_READY)]),
        name="get_readiness",
    )
    async def readyz() -> Response:
        failing = await failing_checks(checks())
        return JsonResponse(
            {"status": "unavailable" if failing else "ok", "failing": failing}, 503 if failing else 200
        )

    @app.get("/metrics", tags=["operations"], summary="Prometheus metrics")
    @described(
        Answer(
            200,
            "In the text format of Prometheus",
            [Content({"type": "string"}, _METRICS_EXAMPLE, METRICS_MEDIA_TYPE)],
        ),
        name="get_metrics",
    )
    async def metrics() -> Response:
        return Response(render_metrics(), media_type=METRICS_MEDIA_TYPE)

    for kind, handler in _handlers().items():
        app.add_exception_handler(kind, handler)
    app.state.limits = limits = http_limits_of(settings)
    app.add_middleware(_Plumbing, limits=limits, spans=spans)


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
    """The outermost layer: trace id, counters, security headers, the bound of requests in flight, and the
    answer to our own faults.
    """

    def __init__(self, app: ASGIApp, limits: HttpLimits, spans: Spans | None = None) -> None:
        self._app = app
        self._limits = limits
        self._spans = spans
        self._in_flight = 0
        self._always = always_sent(limits.hsts_seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        if method == "HEAD":  # the server, whose scope is another one, sends no body in answer to it
            scope = {**scope, "method": "GET", _HEAD_KEY: True}
        started = perf_counter()
        traceparent = _header(scope["headers"], b"traceparent")
        trace_id = trace_id_of(traceparent)
        token = trace_id_var.set(trace_id)
        span = None if self._spans is None else _server_span(self._spans, scope, trace_id, traceparent)
        answer = AnswerHeaders(scope, send, self._extra_headers(scope, trace_id))
        counted: list[Holder] = []
        scope[IN_FLIGHT_KEY] = counted
        self._in_flight += 1
        try:
            await self._answered(scope, receive, answer)
        finally:
            self._in_flight -= 1
            for holder in counted:
                self._limits.in_flight.release(holder)
            REQUESTS.labels(method, answer.status).inc()
            REQUEST_SECONDS.observe(perf_counter() - started)
            if span is not None:
                span.end(answer.status)
            trace_id_var.reset(token)

    async def _answered(self, scope: Scope, receive: Receive, answer: AnswerHeaders) -> None:
        try:
            await self._choose(scope)(scope, receive, answer.send)
        except ClientDisconnect:
            answer.status = CLIENT_GONE
        except asyncio.CancelledError:
            # By the server, whose time to end is over: else it would answer 500, as if it were a fault.
            if answer.begun:
                raise
            problem = Problem("overloaded", "The service is stopping, and it may have been done; repeat it.")
            await problem_response(Request(scope), problem)(scope, receive, answer.send)
        except Exception:
            log.exception("unhandled fault")
            if not answer.begun:
                problem = Problem("internal-error", "The fault is logged under the trace id.")
                await _response_of(Request(scope), problem)(scope, receive, answer.send)

    def _choose(self, scope: Scope) -> ASGIApp:
        """The application that answers: this one, unless it need not be asked or has too many in flight."""
        if scope["method"] == "OPTIONS":
            origin, asked = (_header(scope["headers"], name) for name in _PREFLIGHT)
            headers = preflight_headers(self._limits.origins, origin, asked)
            if headers is not None:
                return Response(status_code=204, headers={k.decode(): v.decode() for k, v in headers})
        fault = host_fault(scope["http_version"], _all(scope["headers"], b"host"))
        if fault is not None:
            return problem_response(Request(scope), Problem("malformed-request", fault))
        if self._in_flight > self._limits.max_requests and scope["path"] not in NEVER_REFUSED:
            REFUSED.labels("requests", "all").inc()
            problem = Problem("overloaded", "Repeat the request a little later.")
            return problem_response(Request(scope), problem)
        return self._app

    def _extra_headers(self, scope: Scope, trace_id: str) -> RawHeaders:
        if not self._limits.origins:
            return [*self._always, (b"trace-id", trace_id.encode())]
        origin = _header(scope["headers"], b"origin")
        return [
            *self._always,
            (b"trace-id", trace_id.encode()),
            *cross_origin_headers(self._limits.origins, origin),
        ]


def _server_span(spans: Spans, scope: Scope, trace_id: str, traceparent: str | None) -> "_ServerSpan | None":
    """None where the request is not sampled, or changes nothing: reads are many, and cross no broker."""
    if scope["method"] != "POST":
        return None
    parent = None if traceparent is None else context_of(traceparent)
    return _ServerSpan(spans, scope, trace_id, parent) if spans.is_sampled(parent, trace_id) else None


class _ServerSpan:
    """The span of a request."""

    def __init__(self, spans: Spans, scope: Scope, trace_id: str, parent: SpanContext | None) -> None:
        self._spans = spans
        self._scope = scope
        self._parent = parent
        self._context = SpanContext(trace_id, token_hex(8))
        self._token = request_span.set(self._context)
        self._start_ns = time_ns()

    def end(self, status: int) -> None:
        """The answer has been sent."""
        request_span.reset(self._token)
        route = getattr(self._scope.get("route"), "path", "")
        attributes: dict[str, str | int | bool] = {
            "http.request.method": self._scope["method"],
            "http.response.status_code": status,
            "url.scheme": self._scope["scheme"],
        }
        if route:
            attributes["http.route"] = route
        self._spans.record(
            f"{self._scope['method']} {route}".rstrip(),
            "server",
            self._context,
            parent=self._parent,
            start_ns=self._start_ns,
            end_ns=time_ns(),
            attributes=attributes,
            is_error=status >= HTTPStatus.INTERNAL_SERVER_ERROR,
        )


def _all(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key == name]


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    for key, value in headers:  # a generator takes three times as long
        if key == name:
            return value.decode("latin-1")
    return None
