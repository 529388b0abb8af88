"""The routes of ingest."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response

from ingest import metrics
from ingest.answers import accepted, batch_line, outcome_location, outcome_name, problem_of, result_of
from ingest.bodies import CreateBody, CreateOperation, UpdateBody, UpdateOperation
from ingest.conditions import as_failed_condition, refuse_conditions, version_asked_for
from ingest.dispatcher import Dispatcher
from ingest.parsing import MAX_BATCH_BYTES, MAX_BODY_BYTES, BadOperation, parse_batch, parse_body
from ingest.pipeline import Submission
from ingest.requests import (
    CommandFactory,
    Preferences,
    batch_key_of,
    operation_id,
    preferences_of,
    update_id_of,
)
from ingest.settling import settle
from shared.access import Principal, may_write, sees_customer
from shared.authentication import authenticated, refuse_revoked
from shared.broker import BrokerUnavailable
from shared.challenges import insufficient_scope
from shared.commands import CreateOrder, UpdateOrder
from shared.database import Database
from shared.direct_routes import DirectRoutes, Handler
from shared.edges import charge
from shared.http import JsonResponse, log_failure, problem_response
from shared.identifiers import is_identifier
from shared.logs import trace_id_var
from shared.order_reads import entitled_order, order_answer, refuse_without_reading
from shared.outcome_reads import outcome_answer, refuse_without_outcomes
from shared.outcomes import Outcome
from shared.problems import Problem, ProblemError
from shared.request_bodies import media_type_of, read_body
from shared.revocation_list import RevocationList
from shared.tokens import TokenVerifier
from shared.views import order_view
from shared.workflow import Workflow

JSON_TYPE = "application/json"
LINES_TYPE = "application/x-ndjson"

AnyCommand = CreateOrder | UpdateOrder


@dataclass(frozen=True, slots=True)
class Ingest:
    """What the routes work with."""

    dispatcher: Dispatcher
    verifier: TokenVerifier
    revocations: RevocationList
    workflow: Workflow
    database: Database
    public_query_url: str = ""
    """What addresses of orders and outcomes begin with, where query is reached elsewhere."""

    async def order(self, request: Request, order_id: str) -> Response:
        """`GET /v1/orders/{order_id}`: as query answers it."""
        principal = await self._caller(request)
        refuse_without_reading(principal)
        _refuse_parameters(request)
        order = await entitled_order(self.database, order_id, principal)
        view = order_view(order, self.workflow, with_customer=sees_customer(principal.grant))
        return order_answer(request, orjson.dumps(view), order["version"])

    async def outcome(self, request: Request, order_id: str, update_id: str) -> Response:
        """`GET /v1/updates/{order_id}/{update_id}`: as query answers it."""
        principal = await self._caller(request)
        refuse_without_outcomes(principal)
        _refuse_parameters(request)
        return await outcome_answer(self.database, principal, order_id, update_id)

    async def create(self, request: Request) -> Response:
        """`POST /v1/orders`."""
        principal = await self._caller(request)
        update_id = update_id_of(request.headers.getlist("idempotency-key"))
        with _naming(update_id):
            factory = self._factory(principal)
            refuse_conditions(request.headers)
            body = parse_body(CreateBody, await _json_body(request))
            command = factory.create(body, update_id)
        return await self._answer(
            request, command, 201, {"Location": f"{self.public_query_url}/v1/orders/{command.order_id}"}
        )

    async def update(self, request: Request, order_id: str) -> Response:
        """`POST /v1/orders/{order_id}/updates`."""
        principal = await self._caller(request)
        update_id = update_id_of(request.headers.getlist("idempotency-key"))
        with _naming(update_id):
            factory = self._factory(principal)
            if not is_identifier(order_id):
                raise ProblemError("order-not-found", "There is no order with such an id.")
            body = parse_body(UpdateBody, await _json_body(request))
            version = version_asked_for(request.headers, body.expected_version)
            body = body.model_copy(update={"expected_version": version})
            command = factory.update(order_id, body, update_id)
        return await self._answer(request, command, 200, {})

    async def batch(self, request: Request) -> Response:
        """`POST /v1/batch`."""
        factory = self._factory(await self._caller(request))
        key = batch_key_of(request.headers.getlist("idempotency-key"))
        refuse_conditions(request.headers)
        wishes = preferences_of(request.headers.getlist("prefer"))
        media_type = media_type_of(request, JSON_TYPE, LINES_TYPE)
        operations = parse_batch(await read_body(request, MAX_BATCH_BYTES), lines=media_type == LINES_TYPE)
        charge(request, factory.principal, len(operations) - 1)
        deadline = asyncio.get_running_loop().time() + wishes.wait_seconds
        sent = [
            self._send_operation(factory, operation, operation_id(key, index), wishes)
            for index, operation in enumerate(operations)
        ]
        results = [
            await _line(index, entry, deadline, request.scope["path"]) for index, entry in enumerate(sent)
        ]
        if all(_is_outage(result) for result in results):
            raise BrokerUnavailable("no operation of the batch reached the broker")
        return JsonResponse({"results": results}, headers=_applied_preference(wishes))

    async def _caller(self, request: Request) -> Principal:
        principal = await authenticated(request, self.verifier)
        refuse_revoked(principal, self.revocations.known)
        return principal

    def _factory(self, principal: Principal) -> CommandFactory:
        if not may_write(principal):
            detail = "The token does not have the scope orders:write."
            raise ProblemError.of(insufficient_scope(detail, "orders:write"))
        return CommandFactory(principal, self.workflow, trace_id_var.get() or "")

    async def _answer(
        self, request: Request, command: AnyCommand, status: int, headers: dict[str, str]
    ) -> Response:
        wishes = preferences_of(request.headers.getlist("prefer"))
        wants_outcome = wishes.wait_seconds > 0
        deadline = asyncio.get_running_loop().time() + wishes.wait_seconds
        try:
            submission = self.dispatcher.submit(command, wants_outcome=wants_outcome)
            outcome = await settle(submission, deadline)
        except BrokerUnavailable as error:
            metrics.ANSWERS.labels("unavailable").inc()
            return problem_response(request, _unavailable(command), error)
        if outcome is None:
            metrics.ANSWERS.labels("accepted").inc()
            location = {"Location": self.public_query_url + outcome_location(command)}
            return JsonResponse(accepted(command), 202, location | _applied_preference(wishes))
        metrics.ANSWERS.labels(outcome_name(outcome)).inc()
        if outcome["outcome"] == "rejected":
            problem = problem_of(outcome)
            told = as_failed_condition(problem) if "if-match" in request.headers else problem
            response = problem_response(request, told)
        else:
            response = JsonResponse(result_of(outcome), status, headers)
        if outcome["replayed"]:
            response.headers["Idempotent-Replayed"] = "true"
        return response

    def _send_operation(
        self,
        factory: CommandFactory,
        operation: CreateOperation | UpdateOperation | BadOperation,
        made_id: str,
        wishes: Preferences,
    ) -> "_Sent":
        if isinstance(operation, BadOperation):
            return _Sent(operation.update_id, operation.order_id, operation.problem)
        update_id = operation.update_id or made_id
        try:
            command = factory.operation(operation, update_id)
        except ProblemError as error:
            return _Sent(update_id, operation.order_id, error.problem)
        try:
            submission = self.dispatcher.submit(command, wants_outcome=wishes.wait_seconds > 0)
        except BrokerUnavailable as error:
            log_failure("broker-unavailable", error)
            return _Sent(command.update_id, command.order_id, _unavailable(command))
        return _Sent(command.update_id, command.order_id, submission, command)


@contextmanager
def _naming(update_id: str) -> Iterator[None]:
    """Puts the update id into whatever problem ends the request, so that the caller can repeat it."""
    try:
        yield
    except ProblemError as error:
        problem = error.problem
        members = problem.members | {"update_id": update_id}
        raise ProblemError(problem.slug, problem.detail, headers=problem.own_headers, **members) from None


@dataclass(frozen=True, slots=True)
class _Sent:
    update_id: str | None
    order_id: str | None
    way: Submission | Problem
    command: AnyCommand | None = None


async def _line(index: int, sent: _Sent, deadline: float, instance: str) -> dict[str, Any]:
    told: Outcome | Problem | None
    if isinstance(sent.way, Problem) or sent.command is None:
        told = sent.way if isinstance(sent.way, Problem) else None
    else:
        try:
            told = await settle(sent.way, deadline)
        except BrokerUnavailable as error:
            log_failure("broker-unavailable", error)
            told = _unavailable(sent.command)
    line = batch_line(
        index, sent.update_id, sent.order_id, told, instance=instance, trace_id=trace_id_var.get()
    )
    metrics.ANSWERS.labels(line["outcome"]).inc()
    return line


def _is_outage(line: dict[str, Any]) -> bool:
    return bool(line.get("problem", {}).get("status") == 503)


def _unavailable(command: AnyCommand) -> Problem:
    return Problem(
        "broker-unavailable",
        "The update may or may not have been taken. Repeat it with the same id; that is safe.",
        {"update_id": command.update_id, "order_id": command.order_id},
    )


def _applied_preference(wishes: Preferences) -> dict[str, str]:
    return {"Preference-Applied": "respond-async"} if wishes.respond_async else {}


def _refuse_parameters(request: Request) -> None:
    for name in request.query_params:
        message = "is not supported here; query takes parameters."
        errors = [{"pointer": f"/query/{name[:64]}", "message": message}]
        raise ProblemError("validation-failed", "Ingest answers this as it stands now.", errors=errors)


async def _json_body(request: Request) -> bytes:
    media_type_of(request, JSON_TYPE)
    return await read_body(request, MAX_BODY_BYTES)


def add_routes(app: FastAPI, ingest: Ingest) -> None:
    """Adds the routes. Their handlers read the request by themselves, because the bounds and problems of the
    contract need the raw body, and they are asked directly. FastAPI's own routes describe them, beside what
    stands in `ingest.openapi`, and refuse other methods.
    """
    handlers: dict[str, Handler] = {}

    def add(path: str, handler: Handler, summary: str) -> None:
        handlers[path] = handler
        app.router.add_api_route(path, handler, methods=["POST"], summary=summary, tags=["updates"])

    add("/v1/orders", ingest.create, "Create an order")
    add("/v1/orders/{order_id}/updates", ingest.update, "Report a change of an order")
    add("/v1/batch", ingest.batch, "Create and update many orders")
    reads: tuple[tuple[str, Handler, str], ...] = (
        ("/v1/orders/{order_id}", ingest.order, "An order as it stands"),
        ("/v1/updates/{order_id}/{update_id}", ingest.outcome, "The outcome of an update"),
    )
    for path, handler, summary in reads:
        app.router.add_api_route(path, handler, methods=["GET"], summary=summary, tags=["updates"])
    app.add_middleware(DirectRoutes, method="POST", handlers=handlers)
