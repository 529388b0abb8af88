"""Makes commands of requests: headers, identity, rules without look-up. Pure but for the clock."""

import re
from collections.abc import Collection, Sequence
from typing import Any

from starlette.datastructures import Headers

from tracking_ingest.api.bodies import (
    AnyOperation,
    CheckpointBody,
    CorrectionBody,
    CreateBody,
    CreateOperation,
    UpdateBody,
)
from tracking_shared.contracts.access import Principal, may_correct, may_create_for, may_write
from tracking_shared.contracts.commands import (
    AddCheckpoint,
    AnyCommand,
    CorrectOrder,
    CreateOrder,
    Customer,
    Source,
    UpdateOrder,
    fingerprint_of,
    unchecked,
)
from tracking_shared.contracts.identifiers import (
    derived_order_id,
    new_update_id,
)
from tracking_shared.contracts.problems import Problem, ProblemError, no_such_order, unknown_name
from tracking_shared.contracts.references import is_foreign_id, referenced_order_id
from tracking_shared.contracts.texts import canonical_form
from tracking_shared.contracts.timestamps import now
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.http.callers import insufficient_scope
from tracking_shared.http.headers import idempotency_key_of, tags_of
from tracking_shared.telemetry.spans import traceparent_of

MAX_BATCH_KEY_CHARACTERS = 60
"""The length of an update id without the index of an operation at its end, `:0` to `:999`."""


def update_id_of(headers: Sequence[str]) -> str:
    """The `Idempotency-Key` (plain, or an RFC 8941 string), or a new update id without one.

    Raises:
        ProblemError: `validation-failed`: not an identifier, or sent twice.
    """
    return idempotency_key_of(headers) if headers else new_update_id()


def batch_key_of(headers: Sequence[str]) -> str | None:
    """The `Idempotency-Key` of a batch, if it has one: the beginning of the ids of its operations.

    Raises:
        ProblemError: `validation-failed`: not an identifier, longer than 60 characters, or sent twice.
    """
    return idempotency_key_of(headers, MAX_BATCH_KEY_CHARACTERS) if headers else None


def operation_id(batch_key: str | None, index: int) -> str:
    """The update id of an operation without one: the same in a repeat of a batch with a key."""
    return new_update_id() if batch_key is None else f"{batch_key}:{index}"


def refuse_without_writing(principal: Principal) -> None:
    """Raises `ProblemError` (`forbidden`) if the caller may not send creates, updates and checkpoints."""
    if not may_write(principal):
        detail = "The token does not have the scope orders:write."
        raise ProblemError.of(insufficient_scope(detail, "orders:write"))


def refuse_without_correcting(principal: Principal) -> None:
    """Raises `ProblemError` (`forbidden`) if the caller may not send corrections."""
    if not may_correct(principal):
        detail = "The token does not have the scope orders:correct."
        raise ProblemError.of(insufficient_scope(detail, "orders:correct"))


_COMMON_FIELDS = {"metadata", "occurred_at"}
_CHECKPOINT_FIELDS = sorted(CheckpointBody.model_fields.keys() - _COMMON_FIELDS)
_CORRECTION_FIELDS = sorted(CorrectionBody.model_fields.keys() - _COMMON_FIELDS)
"""What a checkpoint and a correction ask for; an operation of a batch also names the order."""


class CommandFactory:
    """Makes the commands of one request.

    Each method checks the caller's scope, because each operation of a batch needs a scope of its own. The
    routes of single operations have checked it before: without it, a caller is refused before its body is
    read.
    """

    def __init__(
        self, principal: Principal, workflow: Workflow, trace_id: str, traceparent: str | None = None
    ) -> None:
        """`traceparent` names the span of the request, where it has one."""
        self.principal = principal
        """The sender of the request."""
        self._workflow = workflow
        self._common: dict[str, Any] = {
            "source": unchecked(Source, type=principal.source_type, id=principal.subject),
            "grant": principal.grant,
            "received_at": now(),
            "traceparent": traceparent or traceparent_of(trace_id),
        }

    def create(self, body: CreateBody, update_id: str) -> CreateOrder:
        """Raises `ProblemError`: `forbidden` if the caller may not create for that merchant,
        `validation-failed` for an order id that belongs to another reference.
        """
        refuse_without_writing(self.principal)
        order_id = self._new_order_id(body, update_id)
        if is_foreign_id(order_id, body.merchant_id, body.reference):
            message = "has the form of an id that is derived from a reference, and belongs to another one"
            error = {"pointer": "/order_id", "message": message}
            raise ProblemError("validation-failed", "Nobody may choose such an order id.", errors=[error])
        if not may_create_for(self.principal.grant, order_id, body.merchant_id):
            detail = f"The token may not create this order for merchant {body.merchant_id}."
            raise ProblemError.of(insufficient_scope(detail, "orders:write"))
        name, contact_ref = body.customer.name, body.customer.contact_ref
        customer = unchecked(Customer, name=name, contact_ref=canonical_form(contact_ref))
        # As it was sent: earlier releases store it so, and must agree on what a repeat is.
        content: dict[str, Any] = {"merchant_id": body.merchant_id, "customer": [name, contact_ref]}
        if body.reference is not None:
            content["reference"] = body.reference
        if body.due_at is not None:
            content["due_at"] = body.due_at
        return unchecked(
            CreateOrder,
            op="create",
            update_id=update_id,
            order_id=order_id,
            merchant_id=body.merchant_id,
            reference=body.reference,
            customer=customer,
            due_at=body.due_at,
            metadata=body.metadata,
            occurred_at=body.occurred_at,
            fingerprint=fingerprint_of(
                "create",
                occurred_at=body.occurred_at,
                metadata=body.metadata,
                body=content,
            ),
            **self._common,
        )

    def update(self, order_id: str, body: UpdateBody, update_id: str) -> UpdateOrder:
        """Raises `ProblemError`: `forbidden`, `validation-failed` for a status that no order can have,
        `order-not-found` for an order outside the list of the token.
        """
        refuse_without_writing(self.principal)
        self._refuse_unknown("status", body.status, self._workflow.statuses)
        self._refuse_unlisted(order_id)
        return unchecked(
            UpdateOrder,
            op="update",
            update_id=update_id,
            order_id=order_id,
            status=body.status,
            expected_version=body.expected_version,
            metadata=body.metadata,
            occurred_at=body.occurred_at,
            fingerprint=fingerprint_of(
                "update",
                occurred_at=body.occurred_at,
                metadata=body.metadata,
                body={"status": body.status, "expected_version": body.expected_version},
            ),
            **self._common,
        )

    def checkpoint(self, order_id: str, body: CheckpointBody, update_id: str) -> AddCheckpoint:
        """Raises `ProblemError` as `update` does: `validation-failed` for a kind that the workflow lacks."""
        refuse_without_writing(self.principal)
        self._refuse_unknown("kind", body.kind, self._workflow.checkpoints)
        self._refuse_unlisted(order_id)
        asked = {name: getattr(body, name) for name in _CHECKPOINT_FIELDS}
        return unchecked(
            AddCheckpoint,
            op="checkpoint",
            update_id=update_id,
            order_id=order_id,
            **asked,
            metadata=body.metadata,
            occurred_at=body.occurred_at,
            fingerprint=_fingerprint("checkpoint", body, asked),
            **self._common,
        )

    def correction(self, order_id: str, body: CorrectionBody, update_id: str) -> CorrectOrder:
        """Raises `ProblemError` as `update` does; `forbidden` without the scope of its own."""
        refuse_without_correcting(self.principal)
        self._refuse_unknown("status", body.status, self._workflow.statuses)
        self._refuse_unlisted(order_id)
        asked = {name: getattr(body, name) for name in _CORRECTION_FIELDS}
        return unchecked(
            CorrectOrder,
            op="correct",
            update_id=update_id,
            order_id=order_id,
            **asked,
            metadata=body.metadata,
            occurred_at=body.occurred_at,
            fingerprint=_fingerprint("correct", body, asked),
            **self._common,
        )

    def _refuse_unknown(self, field: str, value: str, known: Collection[str]) -> None:
        if value not in known:
            errors = unknown_name(f"/{field}", known)
            raise ProblemError("validation-failed", f"There is no such {field}.", errors=errors)

    def _refuse_unlisted(self, order_id: str) -> None:
        orders = self.principal.grant.orders
        if orders is not None and order_id not in orders:
            raise ProblemError("order-not-found", no_such_order(order_id))

    def operation(self, operation: AnyOperation, update_id: str) -> AnyCommand:
        """The command of one operation of a batch. Raises what the method of its kind raises."""
        match operation.op:
            case "create":
                return self.create(operation, update_id)
            case "update":
                return self.update(operation.named_order_id, operation, update_id)
            case "checkpoint":
                return self.checkpoint(operation.named_order_id, operation, update_id)
            case "correct":
                return self.correction(operation.named_order_id, operation, update_id)

    def order_id_of(self, operation: AnyOperation, update_id: str) -> str | None:
        """The order id that an operation names; None if one would have been made for a new order."""
        if not isinstance(operation, CreateOperation):
            return operation.named_order_id
        is_made = operation.order_id is None and operation.reference is None
        return None if is_made else self._new_order_id(operation, update_id)

    def _new_order_id(self, body: CreateBody, update_id: str) -> str:
        if body.order_id is not None:
            return body.order_id
        if body.reference is not None:
            return referenced_order_id(body.merchant_id, body.reference)
        return derived_order_id(self.principal.subject, update_id)


def _fingerprint(op: str, body: CheckpointBody | CorrectionBody, asked: dict[str, Any]) -> str:
    # Only what is given, so that a field which is added later makes no other request of this one.
    given = {name: value for name, value in asked.items() if value is not None}
    return fingerprint_of(op, occurred_at=body.occurred_at, metadata=body.metadata, body=given)


# Preconditions of a request (RFC 9110, 13.1). None is ignored: its sender has asked not to make the change.

_VERSION_TAG = re.compile(r'"([1-9]\d{0,9})-[0-9a-f]{12}"')
"""The `ETag` of an order: its version, and a digest of the document that its reader got."""

_ELSEWHERE = "is not supported here; an update of one order may say expected_version."


def refuse_conditions(headers: Headers) -> None:
    """Raises `ProblemError` (`validation-failed`) for a precondition in a request that can have none."""
    for name in ("if-match", "if-unmodified-since"):
        if name in headers:
            raise _refused(name, _ELSEWHERE)


def version_asked_for(headers: Headers, expected_version: int | None) -> int | None:
    """The version that an order must have for an update: that of `If-Match`, or else `expected_version` of
    the body; None: any. `If-Match: *` asks only that the order exists.

    Raises:
        ProblemError: `precondition-failed`: the tag belongs to no version of any order. `validation-failed`:
            no tag or several, another version in the body, or `If-Unmodified-Since`.
    """
    if "if-unmodified-since" in headers:
        raise _refused("if-unmodified-since", "is not supported; send If-Match or expected_version.")
    fields = headers.getlist("if-match")
    tags = tags_of(fields) if fields else None
    if tags is None:
        return expected_version
    version = _version_of(tags)
    if expected_version not in (None, version):
        raise _refused("if-match", "names another version than expected_version.")
    return version


def _version_of(tags: Sequence[str]) -> int:
    if len(tags) != 1:
        raise _refused("if-match", "must be one entity tag, as ETag has it, or *.")
    found = _VERSION_TAG.fullmatch(tags[0])
    if found is None:
        raise ProblemError("precondition-failed", "If-Match is no ETag of an order.")
    return int(found[1])


def _refused(name: str, message: str) -> ProblemError:
    title = "-".join(part.capitalize() for part in name.split("-"))
    return ProblemError(
        "validation-failed",
        f"{title} {message}",
        errors=[{"pointer": f"/headers/{name}", "message": message}],
    )


def as_failed_condition(problem: Problem) -> Problem:
    """The problem for a sender of `If-Match`: a failed precondition in place of a version conflict."""
    if problem.slug != "version-conflict":
        return problem
    return Problem("precondition-failed", problem.detail, problem.members, problem.own_headers)
