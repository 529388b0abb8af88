"""From a request to a command: headers, identity and rules that need no look-up. Pure but for the clock."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ingest.bodies import CreateBody, CreateOperation, UpdateBody, UpdateOperation
from shared.access import Principal, may_create_for
from shared.challenges import insufficient_scope
from shared.commands import CreateOrder, Customer, Source, UpdateOrder, fingerprint_of
from shared.identifiers import (
    MAX_IDENTIFIER_CHARACTERS,
    derived_order_id,
    is_identifier,
    new_update_id,
)
from shared.problems import ProblemError
from shared.timestamps import now
from shared.tracing import traceparent_of
from shared.visible_text import canonical_form
from shared.workflow import Workflow

DEFAULT_WAIT_SECONDS = 3.0
MAX_WAIT_SECONDS = 10.0

MAX_BATCH_KEY_CHARACTERS = 60
"""What an update id may have, without the place of an operation behind it, `:0` to `:999`."""

_ITEM, _PART = (re.compile(rf'(?:[^{end}"]|"(?:[^"\\]|\\.)*"?)+') for end in ",;")
"""What stands between commas, and between semicolons, those in quoted strings aside."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """What the caller wants of the answer (RFC 7240)."""

    wait_seconds: float
    respond_async: bool


def preferences_of(headers: Sequence[str]) -> Preferences:
    """The `Prefer` headers. What is not understood is ignored, as the RFC asks.

    With `respond-async` alone nobody waits; with `wait` beside it, up to that long.
    """
    asked = _preferred(headers)
    respond_async = asked.get("respond-async") == ""
    wait = asked.get("wait", "")
    if wait.isascii() and wait.isdigit():
        return Preferences(min(float(wait), MAX_WAIT_SECONDS), respond_async)
    return Preferences(0.0 if respond_async else DEFAULT_WAIT_SECONDS, respond_async)


def _preferred(headers: Sequence[str]) -> dict[str, str]:
    """The preferences by name, without their parameters; of two with one name the first counts."""
    found: dict[str, str] = {}
    for item in _ITEM.findall(",".join(headers)):
        head = _PART.match(item)
        name, _, value = (head[0] if head else "").partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    return found


def update_id_of(headers: Sequence[str]) -> str:
    """The `Idempotency-Key` (plain, or an RFC 8941 string), or a new update id without one.

    Raises:
        ProblemError: `validation-failed`: not an identifier, or sent twice.
    """
    return _key_of(headers, MAX_IDENTIFIER_CHARACTERS) if headers else new_update_id()


def batch_key_of(headers: Sequence[str]) -> str | None:
    """The `Idempotency-Key` of a batch, if it has one: what the ids of its operations begin with.

    Raises:
        ProblemError: `validation-failed`: not an identifier, longer than 60 characters, or sent twice.
    """
    return _key_of(headers, MAX_BATCH_KEY_CHARACTERS) if headers else None


def operation_id(batch_key: str | None, index: int) -> str:
    """The update id of an operation that brings none: the same one in a repeat of a batch with a key."""
    return new_update_id() if batch_key is None else f"{batch_key}:{index}"


def _key_of(headers: Sequence[str], most: int) -> str:
    key = headers[0].strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(headers) > 1 or len(key) > most or not is_identifier(key):
        message = f"Send one Idempotency-Key of 1 to {most} of A-Z a-z 0-9 . _ : -, a letter or digit first."
        raise ProblemError(
            "validation-failed", message, errors=[{"pointer": "/headers/idempotency-key", "message": message}]
        )
    return key


class CommandFactory:
    """Makes the commands of one request."""

    def __init__(self, principal: Principal, workflow: Workflow, trace_id: str) -> None:
        self.principal = principal
        """Who sends the request."""
        self._workflow = workflow
        self._common: dict[str, Any] = {
            "source": Source.model_construct(type=principal.source_type, id=principal.subject),
            "grant": principal.grant,
            "received_at": now(),
            "traceparent": traceparent_of(trace_id),
        }

    def create(self, body: CreateBody, update_id: str) -> CreateOrder:
        """Raises `ProblemError` (`forbidden`) if the caller may not create for that merchant."""
        order_id = body.order_id or derived_order_id(self.principal.subject, update_id)
        if not may_create_for(self.principal.grant, order_id, body.merchant_id):
            detail = f"The token may not create this order for merchant {body.merchant_id}."
            raise ProblemError.of(insufficient_scope(detail, "orders:write"))
        name, contact_ref = body.customer.name, body.customer.contact_ref
        customer = Customer.model_construct(name=name, contact_ref=canonical_form(contact_ref))
        return CreateOrder.model_construct(
            op="create",
            update_id=update_id,
            order_id=order_id,
            merchant_id=body.merchant_id,
            customer=customer,
            metadata=body.metadata,
            occurred_at=body.occurred_at,
            fingerprint=fingerprint_of(
                "create",
                occurred_at=body.occurred_at,
                metadata=body.metadata,
                # As it was sent: replicas of earlier, which store it so, must agree in what a repeat is.
                body={"merchant_id": body.merchant_id, "customer": [name, contact_ref]},
            ),
            **self._common,
        )

    def update(self, order_id: str, body: UpdateBody, update_id: str) -> UpdateOrder:
        """Raises `ProblemError`: `validation-failed` for a status that no order can have,
        `order-not-found` for an order outside a token's list.
        """
        if body.status not in self._workflow.statuses:
            message = f"must be one of {', '.join(sorted(self._workflow.statuses))}"
            error = {"pointer": "/status", "message": message}
            raise ProblemError("validation-failed", "There is no such status.", errors=[error])
        orders = self.principal.grant.orders
        if orders is not None and order_id not in orders:
            raise ProblemError("order-not-found", f"There is no order {order_id}.")
        return UpdateOrder.model_construct(
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

    def operation(
        self, operation: CreateOperation | UpdateOperation, update_id: str
    ) -> CreateOrder | UpdateOrder:
        """The command of one operation of a batch. Raises what `create` and `update` raise."""
        if isinstance(operation, CreateOperation):
            return self.create(operation, update_id)
        return self.update(operation.order_id, operation, update_id)
