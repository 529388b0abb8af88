"""What every HTTP service has in common: problem documents, health, metrics, trace ids, bounded bodies."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from time import perf_counter
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.access import Principal
from shared.broker import BrokerUnavailable
from shared.database import DatabaseUnavailable
from shared.health import Check, failing_checks
from shared.logs import trace_id_var
from shared.metrics import METRICS_MEDIA_TYPE, REQUEST_SECONDS, REQUESTS, render_metrics
from shared.problems import PROBLEM_MEDIA_TYPE, Problem, ProblemError, validation_problem
from shared.tokens import TokenError, TokenVerifier
from shared.tracing import trace_id_of

log = logging.getLogger(__name__)

MAX_ERRORS_TOLD = 20
"""Errors listed in one `validation-failed` problem; a batch of nonsense must not become a megabyte."""

Handler = Callable[[Request, Exception], Awaitable[Response]]


class JsonResponse(Response):
    """JSON through orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def problem_response(request: Request, problem: Problem) -> Response:
    """The problem as an HTTP answer."""
    document = problem.document(request.url.path, trace_id_var.get())
    return Response(orjson.dumps(document), problem.status, problem.headers(), PROBLEM_MEDIA_TYPE)


def pointer_errors(error: ValidationError | RequestValidationError, skip: int = 0) -> list[dict[str, str]]:
    """Pydantic's errors as ``{pointer, message}`` (JSON pointers, RFC 6901), bounded, without the input."""
    return [
        {"pointer": "".join(f"/{_escape(part)}" for part in e["loc"][skip:]), "message": e["msg"]}
        for e in error.errors()[:MAX_ERRORS_TOLD]
    ]


def _escape(part: object) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")[:200]


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The body, refused as soon as it is known to be longer than `limit_bytes`.

    Raises:
        ProblemError: `payload-too-large`.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise ProblemError(
                "payload-too-large", f"The body may have {limit_bytes} bytes.", limit_bytes=limit_bytes
            )
    return bytes(body)


def authenticated(request: Request, verifier: TokenVerifier) -> Principal:
    """The verified caller of a request.

    Raises:
        ProblemError: `unauthenticated`.
    """
    headers = request.headers.getlist("authorization")
    if len(headers) > 1:
        raise ProblemError("unauthenticated", "Send one Authorization header.")
    try:
        return verifier.verify_header(headers[0] if headers else None)
    except TokenError as error:
        raise ProblemError("unauthenticated", str(error)) from None


def install_plumbing(app: FastAPI, checks: Callable[[], dict[str, Check]]) -> None:
    """Adds what every HTTP service has: `/healthz`, `/readyz`, `/metrics`, problem documents, trace ids.

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
    app.add_middleware(_Plumbing)


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
        return response

    async def on_database(request: Request, error: Exception) -> Response:
        log.warning("database unavailable: %s", error)
        return problem_response(
            request, Problem("database-unavailable", "Repeat the request a little later.")
        )

    async def on_broker(request: Request, error: Exception) -> Response:
        log.warning("broker unavailable: %s", error)
        return problem_response(request, Problem("broker-unavailable", "Repeat the request a little later."))

    return {
        ProblemError: on_problem,
        RequestValidationError: on_invalid,
        HTTPException: on_http,
        DatabaseUnavailable: on_database,
        BrokerUnavailable: on_broker,
    }


def _problem_of_status(status: int, request: Request) -> Problem:
    if status == HTTPStatus.NOT_FOUND:
        return Problem("not-found", f"There is nothing at {request.url.path[:200]}.")
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return Problem("method-not-allowed", f"{request.method} is not supported here; see Allow.")
    if status == HTTPStatus.BAD_REQUEST:
        return Problem("malformed-json", "The request cannot be read.")
    return Problem("internal-error", "The request could not be handled.")


class _Plumbing:
    """The outermost layer: trace id, counters, security headers, and the last resort for our own faults."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        trace_id = trace_id_of(_header(scope["headers"], b"traceparent"))
        token = trace_id_var.set(trace_id)
        status = 500
        answering = False

        async def send_with_headers(message: Message) -> None:
            nonlocal status, answering
            if message["type"] == "http.response.start":
                answering = True
                status = message["status"]
                message["headers"] = [*message["headers"], *_ALWAYS, (b"trace-id", trace_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            log.exception("unhandled fault")
            if not answering:
                response = problem_response(
                    Request(scope), Problem("internal-error", "The fault is logged under the trace id.")
                )
                await response(scope, receive, send_with_headers)
        finally:
            REQUESTS.labels(scope["method"], status).inc()
            REQUEST_SECONDS.observe(perf_counter() - started)
            trace_id_var.reset(token)


_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in headers if key == name), None)
