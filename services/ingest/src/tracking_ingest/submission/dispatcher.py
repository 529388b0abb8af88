"""Dispatches commands to order-state through the pipelines, and takes outcomes from the reply queue."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from itertools import count
from secrets import token_hex
from time import time_ns
from typing import Any, NamedTuple, Protocol

from tracking_ingest import metrics
from tracking_ingest.submission.pipeline import Pipeline, RoutingReplaced, Submission
from tracking_ingest.submission.publish_spans import publish_spans
from tracking_shared.contracts.commands import (
    COMMANDS_MEDIA_TYPE,
    AnyCommand,
    Outcome,
    UndecodableReplies,
    decode_replies,
    encode_command,
)
from tracking_shared.contracts.formats import COMMANDS, NO_HEADERS, message_headers
from tracking_shared.contracts.layout import QUICK_CONFIRM_SECONDS, Layout, Routing
from tracking_shared.http.health import SharedCheck
from tracking_shared.messaging.connection import Connection
from tracking_shared.messaging.consumer import Consumer
from tracking_shared.messaging.errors import BrokerBlocked, BrokerUnavailable
from tracking_shared.messaging.publisher import ALARM, Publisher
from tracking_shared.messaging.topology import COMMANDS_EXCHANGE, routing_key
from tracking_shared.storage.database import DatabaseUnavailable
from tracking_shared.telemetry.spans import Spans, request_span

log = logging.getLogger(__name__)

OUTCOME_PATIENCE_SECONDS = 15
"""The time for which the submissions of a message wait for a reply: longer than any caller may wait."""

CHECK_SECONDS = 1.0
"""The time for which a check of the broker is valid for `/readyz`, which anybody may ask: it costs a
message."""

REPLY_QUEUE_MESSAGES = 10_000
REPLY_BATCH = 50

UNTRACED: AbstractContextManager[None] = nullcontext()


class ReadsRouting(Protocol):
    """The stored routing. Each raises `DatabaseUnavailable` without an answer."""

    async def is_current(self, routing: Routing, /) -> bool:
        """True if this is still the routing."""
        ...

    async def homes(self, layout: Layout, order_ids: Sequence[str], /) -> Mapping[str, int]:
        """The homes of those of these orders that have one."""
        ...


CHANGING = "the number of partitions is being changed"


class Destinations(NamedTuple):
    """The partitions of some orders, under one routing."""

    routing: Routing
    homes: Mapping[str, int]
    """All other orders are new."""


class Dispatcher:
    """Sends commands while there is a broker, and refuses them at once while there is none."""

    def __init__(
        self, partitions: int, spans: Spans | None = None, stored: ReadsRouting | None = None
    ) -> None:
        """`partitions`: of the first generation. Without `stored` there is no other one."""
        self._routing = Routing(Layout((partitions,)))
        self._rerouted = asyncio.Event()
        self._stored = stored
        self._spans = spans
        self._pipelines: list[Pipeline] = []
        self._connection: Connection | None = None
        self.first_connection = asyncio.Event()
        """Set once there was a connection."""
        self._fault = BrokerUnavailable("not connected")
        """The reason why there is no connection."""
        self._asking: SharedCheck | None = None
        self._awaited: dict[str, list[Submission]] = {}
        self._message_prefix = token_hex(4)
        self._message_numbers = count()

    async def check(self) -> None:
        """Raises `BrokerUnavailable` while there is no connection, or the broker does not answer.

        An alarm of the broker does not count: it takes no messages from any replica then, and replicas that
        are out of the load balancer could not even say so. The result is valid for `CHECK_SECONDS`.
        """
        if not self._connected().is_blocked and self._asking is not None:
            with suppress(BrokerBlocked):
                await self._asking()

    def lost(self, fault: BrokerUnavailable) -> None:
        """Notes why there is no connection."""
        self._fault = fault

    def reroute(self, routing: Routing) -> None:
        """Goes on with another routing. What was not sent yet is refused: its order may belong elsewhere."""
        if routing != self._routing:
            self._routing = routing
            self._pipelines = []  # those of the routing before; the next ones follow at once
            self._rerouted.set()

    async def locate(self, order_ids: Sequence[str]) -> Destinations:
        """Finds the partitions of these orders.

        Raises:
            BrokerUnavailable: they cannot be found now.
        """
        routing = self._routing
        if self._stored is None or routing.layout.generation == 0:
            return Destinations(routing, {})
        try:
            return Destinations(routing, await self._stored.homes(routing.layout, order_ids))
        except DatabaseUnavailable as error:
            raise BrokerUnavailable(f"the partitions of orders cannot be read: {error}") from None

    def submit(
        self, command: AnyCommand, *, wants_outcome: bool, destinations: Destinations | None = None
    ) -> Submission:
        """Starts to send a command.

        Raises:
            BrokerUnavailable: there is no connection, too much is waiting, or the broker has an alarm.
                Nothing was sent.
        """
        if self._connected().is_blocked:
            raise BrokerBlocked(ALARM)
        loop = asyncio.get_running_loop()
        submission = Submission(
            encode_command(command), wants_outcome, loop.create_future(), loop.create_future()
        )
        if self._spans is not None and (span := request_span.get()) is not None and span.is_sampled:
            submission.request_span, submission.submitted_ns = span, time_ns()
        self._pipelines[self._partition_of(command.order_id, destinations)].submit(submission)
        return submission

    def _partition_of(self, order_id: str, destinations: Destinations | None) -> int:
        if destinations is None:
            destinations = Destinations(self._routing, {})
        if self._routing.is_fenced or destinations.routing != self._routing:
            raise BrokerUnavailable(CHANGING)
        layout = self._routing.layout
        home = destinations.homes.get(order_id, layout.new_home(order_id))
        if home >= layout.partitions:  # it was created after a change that is not known here yet
            raise BrokerUnavailable(CHANGING)
        return home

    async def serve(self, connection: Connection) -> None:
        """Works over one connection until it is lost.

        Raises:
            BrokerUnavailable: the connection is gone, or order-state has not declared the queues yet.
        """
        publisher = await connection.publisher(COMMANDS_EXCHANGE)
        reply_to, replies = await connection.private_consumer(None, limit=REPLY_QUEUE_MESSAGES)
        with suppress(BrokerBlocked):  # last: an alarm stops everything else on the connection, too
            routing = self._routing
            await connection.with_declared(
                routing.layout.partitions,
                partial(connection.check, COMMANDS_EXCHANGE),
                route=routing.bound_route,
            )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive(replies))
                group.create_task(self._run_pipelines(group, publisher, reply_to))
                self._connection = connection
                self.first_connection.set()
                self._asking = SharedCheck(partial(connection.check, COMMANDS_EXCHANGE), CHECK_SECONDS)
                connection.in_service = True
                metrics.BROKER_BLOCKED.set_function(lambda: connection.is_blocked)
        finally:
            self._pipelines, self._connection = [], None
            metrics.BROKER_BLOCKED.set_function(lambda: False)

    async def _run_pipelines(self, group: asyncio.TaskGroup, publisher: Publisher, reply_to: str) -> None:
        """Has a pipeline for each partition of the current routing; those of the one before are ended."""
        while True:
            self._rerouted.clear()
            routing = self._routing
            self._pipelines = [
                self._pipeline(publisher, partition, routing, reply_to)
                for partition in range(routing.layout.partitions)
            ]
            tasks = [group.create_task(pipeline.run()) for pipeline in self._pipelines]
            await self._rerouted.wait()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _connected(self) -> Connection:
        if self._connection is not None and not self._pipelines:
            raise BrokerUnavailable(CHANGING)
        if self._connection is None:
            raise self._fault.with_traceback(None)  # else it would grow with every request
        return self._connection

    def _pipeline(self, publisher: Publisher, partition: int, routing: Routing, reply_to: str) -> Pipeline:
        key = routing_key(partition, routing.route)
        destination = f"{COMMANDS_EXCHANGE}:{key}"

        async def send(group: list[Submission], body: bytes) -> None:
            message_id = f"{self._message_prefix}-{next(self._message_numbers)}"
            wanted = any(submission.wants_outcome for submission in group)
            if wanted:
                self._remember(message_id, group)
            clock = asyncio.get_running_loop().time
            began = clock()
            traced = UNTRACED if self._spans is None else publish_spans(self._spans, destination, group)
            with traced as headers:
                await publisher.publish(
                    key,
                    body,
                    content_type=COMMANDS_MEDIA_TYPE,
                    message_id=message_id,
                    reply_to=reply_to if wanted else None,
                    headers=message_headers(COMMANDS, headers),
                )
            if clock() - began >= QUICK_CONFIRM_SECONDS:
                await self._require_current(routing)

        return Pipeline(send)

    async def _require_current(self, routing: Routing) -> None:
        """Lets a message count as taken whose confirm came late.

        Raises:
            RoutingReplaced: it was perhaps routed before a change of the number of partitions, and came to
                its queue after it.
        """
        if self._stored is None:
            return
        try:
            is_current = await self._stored.is_current(routing)
        except DatabaseUnavailable as error:
            raise RoutingReplaced(f"the confirm came late, and the routing cannot be read: {error}") from None
        if not is_current:
            raise RoutingReplaced(CHANGING)

    def _remember(self, message_id: str, group: list[Submission]) -> None:
        self._awaited[message_id] = group
        loop = asyncio.get_running_loop()
        loop.call_later(OUTCOME_PATIENCE_SECONDS, self._awaited.pop, message_id, None)

    async def _receive(self, replies: Consumer) -> None:
        while deliveries := await replies.next_batch(REPLY_BATCH):
            for delivery in deliveries:
                self._take(delivery.body, delivery.headers)
            await deliveries[-1].acknowledge_through()
        raise BrokerUnavailable("the reply queue is gone")

    def _take(self, body: bytes, headers: Mapping[str, Any] = NO_HEADERS) -> None:
        try:
            replies = decode_replies(body, headers)
        except UndecodableReplies as error:
            # Callers that wait for it are answered 202 when their time is up.
            log.warning("message dropped: %s", error)
            metrics.UNDECODABLE.inc()
            return
        for reply in replies:
            self._resolve(reply["message_id"], reply["outcomes"])

    def _resolve(self, message_id: str, outcomes: list[Outcome | None]) -> None:
        group = self._awaited.pop(message_id, None)
        if group is None:
            return  # all its callers have been answered by now
        if len(outcomes) != len(group):
            log.warning("reply dropped: %d outcomes for %d commands", len(outcomes), len(group))
            metrics.UNDECODABLE.inc()
            return
        for submission, outcome in zip(group, outcomes, strict=True):
            if not submission.outcome.done():
                submission.outcome.set_result(outcome)
