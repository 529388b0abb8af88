"""The routes of ingest: updates in, answers out."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

import orjson
from fastapi import FastAPI, Request, Response
from pydantic import Field

from tracking_ingest import metrics
from tracking_ingest.api import examples
from tracking_ingest.api.answers import (
    Accepted,
    Result,
    Results,
    accepted,
    outcome_location,
    outcome_name,
    problem_of,
    result_of,
    unavailable,
)
from tracking_ingest.api.bodies import (
    MAX_BATCH_BYTES,
    MAX_OPERATIONS,
    CheckpointBody,
    CorrectionBody,
    CreateBody,
    Operation,
    UpdateBody,
    parse_batch,
)
from tracking_ingest.api.ingest_openapi import BATCH_KEY
from tracking_ingest.api.operation_batches import send_batch
from tracking_ingest.api.requests import (
    CommandFactory,
    as_failed_condition,
    batch_key_of,
    refuse_conditions,
    refuse_without_correcting,
    refuse_without_writing,
    update_id_of,
    version_asked_for,
)
from tracking_ingest.submission.dispatcher import Dispatcher
from tracking_ingest.submission.pipeline import wait_for_outcome
from tracking_shared.auth.revocations import RevocationList
from tracking_shared.auth.tokens import TokenVerifier
from tracking_shared.contracts.access import Principal, may_correct, sees_customer
from tracking_shared.contracts.commands import AnyCommand
from tracking_shared.contracts.identifiers import is_identifier
from tracking_shared.contracts.messages import OrderView, UpdateOutcome, order_view
from tracking_shared.contracts.problems import ProblemError
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.http.callers import (
    authenticated,
    refuse_revoked,
    refuse_without_outcomes,
    refuse_without_reading,
)
from tracking_shared.http.described_routes import CORRECT, READ, WRITE, Answer, Content, described
from tracking_shared.http.http_limits import consume_rate_limit, media_type_of, read_body
from tracking_shared.http.json_bodies import BODY_PROBLEMS, JSON_TYPE, read_json
from tracking_shared.http.merchant_addresses import add_merchant_addresses
from tracking_shared.http.order_answers import entitled_order, order_answer
from tracking_shared.http.outcome_answers import outcome_answer
from tracking_shared.http.preferences import preferences_of
from tracking_shared.http.service_app import JsonResponse, problem_response
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.storage.database import Database
from tracking_shared.telemetry.logs import trace_id_var
from tracking_shared.telemetry.spans import request_span

B = TypeVar("B", UpdateBody, CheckpointBody, CorrectionBody)

LINES_TYPE = "application/x-ndjson"

_PROBLEMS = (*BODY_PROBLEMS, "idempotency-key-reused", "broker-unavailable", "database-unavailable")

_ACCEPTED = Answer(
    202,
    "It is taken and safe, and will be decided",
    [Content(Accepted, examples.ACCEPTED)],
    always=["Location"],
    sometimes=["Preference-Applied"],
)

_ACCEPTED_OR_HELD = replace(
    _ACCEPTED,
    description="It is taken and safe, and will be decided: now, or later if it came too early (`held`)",
    sometimes=["Preference-Applied", "Idempotent-Replayed"],
)

_RECORDED = Answer(
    200,
    "The change is recorded, now or before",
    [Content(Result, examples.UPDATED)],
    sometimes=["Idempotent-Replayed"],
)
_CONFLICTS = ("order-archived", "order-not-found", "version-conflict", "precondition-failed")

_NEXT = {
    "UpdateOrder": {
        "operationId": "update_order",
        "parameters": {"order_id": "$response.body#/order_id"},
        "description": "What happens to the order next.",
    }
}


@dataclass(frozen=True, slots=True)
class Ingest:
    """The endpoints, and the parts that they work with."""

    dispatcher: Dispatcher
    verifier: TokenVerifier
    revocations: RevocationList
    workflow: Workflow
    database: Database
    public_query_url: str = ""
    """The beginning of the addresses of orders and outcomes, where query is reached elsewhere."""

    @described(
        Answer(200, "The order", [Content(OrderView, examples.ORDER)], always=["ETag"]),
        Answer(304, "It is as the caller has it", always=["ETag"]),
        name="get_order",
        problems=["validation-failed", "database-unavailable", "order-not-found", "precondition-failed"],
        headers=["If-Match", "If-None-Match"],
        scope=READ,
    )
    async def order(self, request: Request, order_id: str) -> Response:
        """`GET /v1/orders/{order_id}`: as query answers it."""
        principal = await self._caller(request)
        refuse_without_reading(principal)
        _refuse_parameters(request)
        order = await entitled_order(self.database, order_id, principal)
        view = order_view(order, self.workflow, with_customer=sees_customer(principal.grant))
        return order_answer(request, orjson.dumps(view), order["version"])

    @described(
        Answer(
            200,
            "It was applied, or rejected with this problem, or is held",
            [Content(UpdateOutcome, examples.OUTCOME)],
        ),
        name="get_update",
        problems=["validation-failed", "database-unavailable", "update-not-found"],
        scope=READ,
        other_scope=WRITE,
    )
    async def outcome(self, request: Request, order_id: str, update_id: str) -> Response:
        """`GET /v1/updates/{order_id}/{update_id}`: as query answers it."""
        principal = await self._caller(request)
        refuse_without_outcomes(principal)
        _refuse_parameters(request)
        return await outcome_answer(self.database, principal, order_id, update_id)

    @described(
        Answer(
            201,
            "The order is created, now or before",
            [Content(Result, examples.CREATED)],
            always=["Location"],
            sometimes=["Idempotent-Replayed"],
            links=_NEXT,
        ),
        _ACCEPTED,
        name="create_order",
        problems=[*_PROBLEMS, "order-archived", "order-exists"],
        headers=["Idempotency-Key", "Prefer"],
        bodies=[Content(CreateBody, examples.CREATE)],
        scope=WRITE,
    )
    async def create(self, request: Request) -> Response:
        """`POST /v1/orders`."""
        principal = await self._caller(request)
        update_id = update_id_of(request.headers.getlist("idempotency-key"))
        with _naming(update_id):
            refuse_without_writing(principal)
            factory = self._factory(principal)
            refuse_conditions(request.headers)
            body = await read_json(request, CreateBody)
            command = factory.create(body, update_id)
        return await self._answer(
            request, command, 201, {"Location": f"{self.public_query_url}/v1/orders/{command.order_id}"}
        )

    @described(
        _RECORDED,
        _ACCEPTED_OR_HELD,
        name="update_order",
        problems=[*_PROBLEMS, *_CONFLICTS, "invalid-transition"],
        headers=["Idempotency-Key", "If-Match", "Prefer"],
        bodies=[Content(UpdateBody, examples.UPDATE)],
        scope=WRITE,
    )
    async def update(self, request: Request, order_id: str) -> Response:
        """`POST /v1/orders/{order_id}/updates`."""
        return await self._change(
            request, order_id, UpdateBody, CommandFactory.update, refuse_without_writing
        )

    @described(
        replace(_RECORDED, contents=[Content(Result, examples.CHECKPOINT_ADDED)]),
        _ACCEPTED_OR_HELD,
        name="add_checkpoint",
        problems=[*_PROBLEMS, *_CONFLICTS],
        headers=["Idempotency-Key", "If-Match", "Prefer"],
        bodies=[Content(CheckpointBody, examples.CHECKPOINT)],
        scope=WRITE,
    )
    async def checkpoint(self, request: Request, order_id: str) -> Response:
        """`POST /v1/orders/{order_id}/checkpoints`."""
        return await self._change(
            request, order_id, CheckpointBody, CommandFactory.checkpoint, refuse_without_writing
        )

    @described(
        replace(_RECORDED, contents=[Content(Result, examples.CORRECTED)]),
        _ACCEPTED,
        name="correct_order",
        problems=[*_PROBLEMS, *_CONFLICTS, "invalid-transition"],
        headers=["Idempotency-Key", "If-Match", "Prefer"],
        bodies=[Content(CorrectionBody, examples.CORRECTION)],
        scope=CORRECT,
    )
    async def correct(self, request: Request, order_id: str) -> Response:
        """`POST /v1/orders/{order_id}/corrections`."""
        return await self._change(
            request, order_id, CorrectionBody, CommandFactory.correction, refuse_without_correcting
        )

    async def _change(
        self,
        request: Request,
        order_id: str,
        kind: type[B],
        make: Callable[[CommandFactory, str, B, str], AnyCommand],
        refuse: Callable[[Principal], None],
    ) -> Response:
        """Answers a change of an order that exists."""
        principal = await self._caller(request)
        update_id = update_id_of(request.headers.getlist("idempotency-key"))
        with _naming(update_id):
            refuse(principal)
            if not is_identifier(order_id):
                raise ProblemError("order-not-found", "There is no order with such an id.")
            body = await read_json(request, kind)
            version = version_asked_for(request.headers, body.expected_version)
            if version != body.expected_version:
                body = body.model_copy(update={"expected_version": version})
            command = make(self._factory(principal), order_id, body, update_id)
        return await self._answer(request, command, 200, {})

    @described(
        Answer(
            200,
            "What became of each operation",
            [Content(Results, examples.RESULTS)],
            sometimes=["Preference-Applied"],
        ),
        name="send_batch",
        problems=[*BODY_PROBLEMS, "broker-unavailable", "database-unavailable"],
        headers=[BATCH_KEY, "Prefer"],
        bodies=[
            Content(
                Annotated[list[Operation], Field(min_length=1, max_length=MAX_OPERATIONS)],
                examples.OPERATIONS,
            ),
            Content({"type": "string", "description": "One operation a line."}, examples.LINES, LINES_TYPE),
        ],
        scope=WRITE,
    )
    async def batch(self, request: Request) -> Response:
        """`POST /v1/batch`."""
        principal = await self._caller(request)
        if not may_correct(principal):  # each operation asks for a right of its own
            refuse_without_writing(principal)
        factory = self._factory(principal)
        key = batch_key_of(request.headers.getlist("idempotency-key"))
        refuse_conditions(request.headers)
        preferences = preferences_of(request.headers.getlist("prefer"))
        media_type = media_type_of(request, JSON_TYPE, LINES_TYPE)
        operations = parse_batch(await read_body(request, MAX_BATCH_BYTES), lines=media_type == LINES_TYPE)
        consume_rate_limit(request, factory.principal, len(operations) - 1)
        results = await send_batch(
            self.dispatcher,
            factory,
            operations,
            key=key,
            wait_seconds=preferences.wait_seconds,
            instance=request.scope["path"],
        )
        return JsonResponse({"results": results}, headers=preferences.applied())

    async def _caller(self, request: Request) -> Principal:
        principal = await authenticated(request, self.verifier)
        refuse_revoked(principal, self.revocations.known)
        return principal

    def _factory(self, principal: Principal) -> CommandFactory:
        span = request_span.get()
        traceparent = None if span is None else span.traceparent
        return CommandFactory(principal, self.workflow, trace_id_var.get() or "", traceparent)

    async def _answer(
        self, request: Request, command: AnyCommand, status: int, headers: dict[str, str]
    ) -> Response:
        preferences = preferences_of(request.headers.getlist("prefer"))
        wants_outcome = preferences.wait_seconds > 0
        deadline = asyncio.get_running_loop().time() + preferences.wait_seconds
        try:
            destinations = await self.dispatcher.locate([command.order_id])
            submission = self.dispatcher.submit(
                command, wants_outcome=wants_outcome, destinations=destinations
            )
            outcome = await wait_for_outcome(submission, deadline)
        except BrokerUnavailable as error:
            metrics.ANSWERS.labels("unavailable").inc()
            return problem_response(request, unavailable(command), error)
        if outcome is None:
            metrics.ANSWERS.labels("accepted").inc()
            return self._accepted(command, preferences.applied())
        metrics.ANSWERS.labels(outcome_name(outcome)).inc()
        if outcome["outcome"] == "rejected":
            problem = problem_of(outcome)
            if "if-match" in request.headers:
                problem = as_failed_condition(problem)
            response = problem_response(request, problem)
        elif outcome["outcome"] == "held":
            response = self._accepted(command, {}, is_held=True)
        else:
            response = JsonResponse(result_of(outcome), status, headers)
        if outcome["replayed"]:
            response.headers["Idempotent-Replayed"] = "true"
        return response

    def _accepted(self, command: AnyCommand, headers: dict[str, str], *, is_held: bool = False) -> Response:
        location = {"Location": self.public_query_url + outcome_location(command)}
        return JsonResponse(accepted(command, is_held=is_held), 202, location | headers)


@contextmanager
def _naming(update_id: str) -> Iterator[None]:
    """Adds the update id to any problem that ends the request, so that the caller can repeat it."""
    try:
        yield
    except ProblemError as error:
        members = error.problem.members | {"update_id": update_id}
        raise ProblemError.of(replace(error.problem, members=members)) from None


def _refuse_parameters(request: Request) -> None:
    for name in request.query_params:
        message = "is not supported here; query takes parameters."
        errors = [{"pointer": f"/query/{name[:64]}", "message": message}]
        raise ProblemError("validation-failed", "Ingest answers this as it stands now.", errors=errors)


def add_routes(app: FastAPI, ingest: Ingest) -> None:
    """Adds the routes. Their handlers read the request by themselves, because the bounds and problems of the
    contract need the raw body.
    """
    for method, path, handler, summary in (
        ("POST", "/v1/orders/{order_id}/updates", ingest.update, "Report a change of an order"),
        (
            "POST",
            "/v1/orders/{order_id}/checkpoints",
            ingest.checkpoint,
            "Report what is no step of an order",
        ),
        ("POST", "/v1/orders/{order_id}/corrections", ingest.correct, "Correct the status of an order"),
        ("POST", "/v1/orders", ingest.create, "Create an order"),
        ("POST", "/v1/batch", ingest.batch, "Create and change many orders"),
        ("GET", "/v1/orders/{order_id}", ingest.order, "An order as it stands"),
        ("GET", "/v1/updates/{order_id}/{update_id}", ingest.outcome, "The outcome of an update"),
    ):
        app.add_api_route(path, handler, methods=[method], summary=summary, tags=["updates"])
    add_merchant_addresses(app)
