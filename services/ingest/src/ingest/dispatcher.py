"""The way to order-state and back: commands out through the pipelines, outcomes in by the reply queue."""

import asyncio
import logging
from contextlib import suppress
from functools import partial
from itertools import count
from secrets import token_hex

from ingest import metrics
from ingest.pipeline import Pipeline, Submission
from shared.broker import ALARM, BrokerBlocked, BrokerUnavailable, Connection, Consumer, Publisher
from shared.commands import COMMANDS_MEDIA_TYPE, CreateOrder, UpdateOrder, encode_command
from shared.health import SharedCheck
from shared.outcomes import Outcome, UndecodableReplies, decode_replies
from shared.partitioning import partition_of
from shared.topology import COMMANDS_EXCHANGE, routing_key

log = logging.getLogger(__name__)

OUTCOME_PATIENCE_SECONDS = 15
"""How long a message's submissions are remembered for a reply: longer than any caller may wait."""

CHECK_SECONDS = 1.0
"""How long the answer of the broker holds for `/readyz`, which anybody may ask: it costs a message."""

REPLY_QUEUE_MESSAGES = 10_000
REPLY_BATCH = 50


class Dispatcher:
    """Sends commands while there is a broker, and refuses them at once while there is none."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._pipelines: list[Pipeline] = []
        self._connection: Connection | None = None
        self._fault = BrokerUnavailable("not connected")
        """Why there is no connection."""
        self._asking: SharedCheck | None = None
        self._awaited: dict[str, list[Submission]] = {}
        self._message_prefix = token_hex(4)
        self._message_numbers = count()

    async def check(self) -> None:
        """Raises `BrokerUnavailable` while there is no connection, or the broker does not answer.

        An alarm of the broker is none of that: it takes no messages from any replica then, and replicas that
        are out of the load balancer could not even say so. What was found holds for `CHECK_SECONDS`.
        """
        if not self._connected().is_blocked and self._asking is not None:
            with suppress(BrokerBlocked):
                await self._asking()

    def lost(self, fault: BrokerUnavailable) -> None:
        """Takes note of why there is no connection."""
        self._fault = fault

    def submit(self, command: CreateOrder | UpdateOrder, *, wants_outcome: bool) -> Submission:
        """Sends a command on its way.

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
        self._pipelines[partition_of(command.order_id, self._partitions)].submit(submission)
        return submission

    async def serve(self, connection: Connection) -> None:
        """Works over one connection until it is lost.

        Raises:
            BrokerUnavailable: the connection is gone, or order-state has not declared the queues yet.
        """
        publisher = await connection.publisher(COMMANDS_EXCHANGE)
        reply_to, replies = await connection.private_consumer(None, limit=REPLY_QUEUE_MESSAGES)
        with suppress(BrokerBlocked):  # last: an alarm stops everything else on the connection, too
            await connection.with_declared(self._partitions, partial(connection.check, COMMANDS_EXCHANGE))
        pipelines = [self._pipeline(publisher, p, reply_to) for p in range(self._partitions)]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive(replies))
                for pipeline in pipelines:
                    group.create_task(pipeline.run())
                self._pipelines, self._connection = pipelines, connection
                self._asking = SharedCheck(partial(connection.check, COMMANDS_EXCHANGE), CHECK_SECONDS)
                connection.in_service = True
                metrics.BROKER_BLOCKED.set_function(lambda: connection.is_blocked)
        finally:
            self._pipelines, self._connection = [], None
            metrics.BROKER_BLOCKED.set_function(lambda: False)

    def _connected(self) -> Connection:
        if self._connection is None:
            raise self._fault.with_traceback(None)  # else it would grow with every request
        return self._connection

    def _pipeline(self, publisher: Publisher, partition: int, reply_to: str) -> Pipeline:
        key = routing_key(partition)

        async def send(group: list[Submission], body: bytes) -> None:
            message_id = f"{self._message_prefix}-{next(self._message_numbers)}"
            wanted = any(submission.wants_outcome for submission in group)
            if wanted:
                self._remember(message_id, group)
            await publisher.publish(
                key,
                body,
                content_type=COMMANDS_MEDIA_TYPE,
                message_id=message_id,
                reply_to=reply_to if wanted else None,
            )

        return Pipeline(send)

    def _remember(self, message_id: str, group: list[Submission]) -> None:
        self._awaited[message_id] = group
        loop = asyncio.get_running_loop()
        loop.call_later(OUTCOME_PATIENCE_SECONDS, self._awaited.pop, message_id, None)

    async def _receive(self, replies: Consumer) -> None:
        while deliveries := await replies.next_batch(REPLY_BATCH):
            for delivery in deliveries:
                self._take(delivery.body)
            await deliveries[-1].acknowledge_through()
        raise BrokerUnavailable("the reply queue is gone")

    def _take(self, body: bytes) -> None:
        try:
            replies = decode_replies(body)
        except UndecodableReplies as error:
            # Whoever waits for what this was is answered 202 when the time is up.
            log.warning("message dropped: %s", error)
            metrics.UNDECODABLE.inc()
            return
        for reply in replies:
            self._settle(reply["message_id"], reply["outcomes"])

    def _settle(self, message_id: str, outcomes: list[Outcome | None]) -> None:
        group = self._awaited.pop(message_id, None)
        if group is None:
            return  # everyone has been answered by now
        if len(outcomes) != len(group):
            log.warning("reply dropped: %d outcomes for %d commands", len(outcomes), len(group))
            metrics.UNDECODABLE.inc()
            return
        for submission, outcome in zip(group, outcomes, strict=True):
            if not submission.outcome.done():
                submission.outcome.set_result(outcome)
