"""Batches: sends the operations to order-state, and makes a line of the answer for each."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tracking_ingest import metrics
from tracking_ingest.api.answers import batch_line, unavailable
from tracking_ingest.api.bodies import AnyOperation, BadOperation
from tracking_ingest.api.requests import CommandFactory, operation_id
from tracking_ingest.submission.dispatcher import Destinations, Dispatcher
from tracking_ingest.submission.pipeline import Submission, wait_for_outcome
from tracking_shared.contracts.commands import AnyCommand, Outcome
from tracking_shared.contracts.problems import Problem, ProblemError
from tracking_shared.http.service_app import log_failure
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.telemetry.logs import trace_id_var


@dataclass(frozen=True, slots=True)
class _SentOperation:
    """A command with its submission, or the problem that the operation was refused with."""

    update_id: str | None
    order_id: str | None
    sent: tuple[AnyCommand, Submission] | Problem


async def send_batch(
    dispatcher: Dispatcher,
    factory: CommandFactory,
    operations: Sequence[AnyOperation | BadOperation],
    *,
    key: str | None,
    wait_seconds: float,
    instance: str,
) -> list[dict[str, Any]]:
    """Sends all operations, waits for their outcomes, and returns the lines of the answer. `key`: the
    idempotency key of the batch; `instance`: its path.

    Raises:
        BrokerUnavailable: no operation reached the broker.
    """
    deadline = asyncio.get_running_loop().time() + wait_seconds
    made = [
        _command_of(factory, operation, operation_id(key, index))
        for index, operation in enumerate(operations)
    ]
    order_ids = [one.order_id for one in made if not isinstance(one, _SentOperation)]
    destinations = await dispatcher.locate(order_ids)
    sent = [
        one
        if isinstance(one, _SentOperation)
        else _send(dispatcher, one, destinations, wants_outcome=wait_seconds > 0)
        for one in made
    ]
    lines = [await _line(index, one, deadline, instance) for index, one in enumerate(sent)]
    for outcome, number in Counter(line["outcome"] for line in lines).items():
        metrics.ANSWERS.labels(outcome).inc(number)
    if all(_is_outage(line) for line in lines):
        raise BrokerUnavailable("no operation of the batch reached the broker")
    return lines


def _command_of(
    factory: CommandFactory, operation: AnyOperation | BadOperation, default_id: str
) -> AnyCommand | _SentOperation:
    if isinstance(operation, BadOperation):
        return _SentOperation(operation.update_id, operation.order_id, operation.problem)
    update_id = operation.update_id or default_id
    try:
        return factory.operation(operation, update_id)
    except ProblemError as error:
        return _SentOperation(update_id, factory.order_id_of(operation, update_id), error.problem)


def _send(
    dispatcher: Dispatcher, command: AnyCommand, destinations: Destinations, *, wants_outcome: bool
) -> _SentOperation:
    try:
        submission = dispatcher.submit(command, wants_outcome=wants_outcome, destinations=destinations)
    except BrokerUnavailable as error:
        log_failure("broker-unavailable", error)
        return _SentOperation(command.update_id, command.order_id, unavailable(command))
    return _SentOperation(command.update_id, command.order_id, (command, submission))


async def _line(index: int, operation: _SentOperation, deadline: float, instance: str) -> dict[str, Any]:
    result: Outcome | Problem | None
    if isinstance(operation.sent, Problem):
        result = operation.sent
    else:
        command, submission = operation.sent
        try:
            result = await wait_for_outcome(submission, deadline)
        except BrokerUnavailable as error:
            log_failure("broker-unavailable", error)
            result = unavailable(command)
    return batch_line(
        index,
        operation.update_id,
        operation.order_id,
        result,
        instance=instance,
        trace_id=trace_id_var.get(),
    )


def _is_outage(line: dict[str, Any]) -> bool:
    return bool(line.get("problem", {}).get("status") == 503)
