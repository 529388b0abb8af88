"""Group commit: one publish in flight for each partition; submissions that arrive meanwhile share the next
one.

A publish costs far more than an update, so under load many updates share one; when idle, an update
is published at once. A submission has two futures, because two answers come separately: the
broker's confirm, and the outcome from order-state. A failure is a value of both.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto

from tracking_ingest import metrics
from tracking_shared.contracts.commands import (
    MAX_COMMANDS_MESSAGE_BYTES,
    MAX_COMMANDS_PER_MESSAGE,
    Outcome,
    join_commands,
)
from tracking_shared.messaging.errors import BrokerBlocked, BrokerUnavailable, PublishRefused
from tracking_shared.messaging.publisher import PUBLISH_TIMEOUT_SECONDS
from tracking_shared.telemetry.spans import SpanContext

MAX_WAITING_BYTES = 8 * 1024 * 1024
"""Per partition, not yet published. At the measured rates that is seconds of work; beyond it callers get a
503 with `Retry-After`."""


Result = Outcome | BrokerUnavailable | None
"""None: the command is parked."""


class Late(Enum):
    """The outcome has not come in the time that its caller waits."""

    LATE = auto()


@dataclass(slots=True, eq=False)
class Submission:
    """A command that is being sent. The value of `confirmed` is None once the broker has it."""

    encoded: bytes
    wants_outcome: bool
    confirmed: asyncio.Future[BrokerUnavailable | None]
    outcome: asyncio.Future[Result | Late]
    request_span: SpanContext | None = None
    """That of its request, if that is sampled."""
    submitted_ns: int = 0
    """When it was submitted, in nanoseconds since 1970, if its request is sampled."""

    def resolve_confirm(self, error: BrokerUnavailable | None) -> None:
        """Notes that the broker has the command, or, with an error, may not have it: then no outcome is
        awaited.
        """
        if not self.confirmed.done():
            self.confirmed.set_result(error)
        if error is not None and not self.outcome.done():
            self.outcome.set_result(error)


class RoutingReplaced(BrokerUnavailable):
    """The number of partitions has perhaps changed before the broker confirmed: it may be decided late."""


Send = Callable[[list[Submission], bytes], Awaitable[None]]
"""Publishes one message for these submissions; raises `BrokerUnavailable`."""


class Pipeline:
    """The submissions of one partition, in their order. When one is refused, those behind it are refused,
    too: a later update of an order must not be decided before an earlier one is repeated.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: deque[Submission] = deque()
        self._waiting_bytes = 0
        self._full = False
        self._arrived = asyncio.Event()

    def submit(self, submission: Submission) -> None:
        """Takes a submission.

        Raises:
            BrokerUnavailable: too much is waiting; once that is so, until some of it has left.
        """
        self._full |= self._waiting_bytes + len(submission.encoded) > MAX_WAITING_BYTES
        if self._full:
            raise BrokerUnavailable("too many updates are waiting for the broker")
        self._waiting.append(submission)
        self._waiting_bytes += len(submission.encoded)
        self._arrived.set()

    async def run(self) -> None:
        """Publishes until the broker fails, which fails everything that waits.

        Raises:
            BrokerUnavailable: the connection is gone, or a confirm did not come in time.
        """
        try:
            while True:
                await self._arrived.wait()
                await self._publish(self._take())
        finally:
            self._fail_all(BrokerUnavailable("the broker was lost"))

    async def _publish(self, group: list[Submission]) -> None:
        error: BrokerUnavailable | None = BrokerUnavailable("the broker was lost")
        try:
            await self._send(group, join_commands([submission.encoded for submission in group]))
            error = None
        except (PublishRefused, BrokerBlocked, RoutingReplaced) as refusal:  # the connection is good
            error = refusal
            self._fail_all(refusal)
        finally:
            for submission in group:
                submission.resolve_confirm(error)
        metrics.PUBLISHED_COMMANDS.observe(len(group))

    def _take(self) -> list[Submission]:
        group: list[Submission] = []
        size = 0
        self._full = False
        while self._waiting and len(group) < MAX_COMMANDS_PER_MESSAGE:
            size += len(self._waiting[0].encoded)
            if group and size > MAX_COMMANDS_MESSAGE_BYTES:
                break
            group.append(self._waiting.popleft())
            self._waiting_bytes -= len(group[-1].encoded)
        if not self._waiting:
            self._arrived.clear()
        return group

    def _fail_all(self, error: BrokerUnavailable) -> None:
        for submission in self._waiting:
            submission.resolve_confirm(error)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._full = False
        self._arrived.clear()


CONFIRM_PATIENCE_SECONDS = PUBLISH_TIMEOUT_SECONDS + 1
"""The publish has its own timeout; a submission may also wait for the one before it."""


async def wait_for_outcome(submission: Submission, deadline: float) -> Outcome | None:
    """Waits for the outcome. None: the broker has confirmed the command, and the outcome is not known yet.

    `deadline` is a time of the running loop.

    Raises:
        BrokerUnavailable: it is unknown whether the broker has it. Repeating with the same id is safe.
    """
    if submission.wants_outcome:
        result = await _outcome_by(submission.outcome, deadline)
        if result is not Late.LATE:
            return _known(result)
    try:
        async with asyncio.timeout(2 * CONFIRM_PATIENCE_SECONDS):
            error = await submission.confirmed
    except TimeoutError:
        raise BrokerUnavailable("no confirm in time") from None
    if error is not None:
        raise error
    return None


async def _outcome_by(
    outcome: asyncio.Future[Result | Late], deadline: float
) -> Outcome | BrokerUnavailable | Late | None:
    if not outcome.done():
        # One timer: a time-out of asyncio costs eight times as much, for each operation of a batch.
        timer = asyncio.get_running_loop().call_at(deadline, _end_wait, outcome)
        try:
            return await outcome
        finally:
            timer.cancel()
    return outcome.result()


def _end_wait(outcome: asyncio.Future[Result | Late]) -> None:
    if not outcome.done():
        outcome.set_result(Late.LATE)


def _known(result: Outcome | BrokerUnavailable | None) -> Outcome | None:
    if isinstance(result, BrokerUnavailable):
        raise result
    return result
