"""Publishes committed results: events to the fanout exchange, outcomes to the ingests that wait for them.

Events are published without waiting for the broker's confirms, and the number of unconfirmed messages is
bounded. The broker confirms a message once *every* queue bound to the exchange has it. The queue of a
notifier whose node is frozen takes it when that node wakes or is given up, and until then no decision or
answer may wait for it. Nor may many messages be on their way there: a RabbitMQ channel stops reading after
400 messages that one queue does not take, and with it the whole connection, acknowledgements included.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import orjson

from tracking_order_state import metrics
from tracking_shared.contracts.commands import REPLIES_MEDIA_TYPE, Reply
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.formats import EVENTS, REPLIES, message_headers
from tracking_shared.contracts.messages import EVENTS_MEDIA_TYPE, cloud_event
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.messaging.connection import Connection
from tracking_shared.messaging.errors import BrokerBlocked, BrokerUnavailable, PublishRefused
from tracking_shared.messaging.publisher import Publisher
from tracking_shared.messaging.topology import EVENTS_EXCHANGE
from tracking_shared.telemetry.spans import SpanContext, headers_for

MAX_UNCONFIRMED_MESSAGES = 100
"""Well below the 400 at which the broker holds the connection up."""

MAX_UNCONFIRMED_BYTES = 32 * 1024 * 1024
"""A quarter of what a node of the broker buffers for another one (128 MiB) before it holds senders up."""

MAX_UNCONFIRMED_SECONDS = 120.0
"""The nodes of a cluster give up a dead one in less. Without a confirm by then, another node is tried."""


@dataclass(slots=True, eq=False)
class _Message:
    """A message that is sent and not confirmed."""

    body: bytes
    sent_at: float
    headers: dict[str, Any] | None = None
    is_done: bool = False


class EventPublisher:
    """Sends messages of events in their order. Events that are dropped, refused or lost on the way are in the
    log, where notifiers find them within two seconds.
    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._unconfirmed: deque[_Message] = deque()
        self._unconfirmed_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._fault: BrokerUnavailable | None = None

    def send(self, body: bytes, headers: dict[str, Any] | None = None) -> None:
        """Starts to send one message, or drops it if too many are unconfirmed.

        Raises:
            BrokerUnavailable: an earlier message showed that the connection is gone, or has had no confirm
                for `MAX_UNCONFIRMED_SECONDS`.
        """
        if self._fault is not None:
            raise self._fault.with_traceback(None)
        now = monotonic()
        if self._unconfirmed and now - self._unconfirmed[0].sent_at > MAX_UNCONFIRMED_SECONDS:
            raise BrokerUnavailable(f"it has not confirmed an event for {MAX_UNCONFIRMED_SECONDS:.0f} s")
        if (
            len(self._unconfirmed) >= MAX_UNCONFIRMED_MESSAGES
            or self._unconfirmed_bytes >= MAX_UNCONFIRMED_BYTES
        ):
            metrics.ANNOUNCEMENTS_DROPPED.inc()
            return
        message = _Message(body, now, headers)
        self._unconfirmed.append(message)
        self._unconfirmed_bytes += len(body)
        task = asyncio.create_task(self._publish(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self, message: _Message) -> None:
        try:
            await self._publisher.publish(
                "",
                message.body,
                content_type=EVENTS_MEDIA_TYPE,
                headers=message_headers(EVENTS, message.headers),
                timeout_seconds=None,
            )
        except PublishRefused:  # a queue that somebody else has bound is full; all others have it
            metrics.ANNOUNCEMENTS_REFUSED.inc()
        except BrokerBlocked:  # before it was sent; the replies show how long that lasts
            metrics.ANNOUNCEMENTS_DROPPED.inc()
        except BrokerUnavailable as error:
            self._fault = error
        finally:
            self._confirm(message)

    def _confirm(self, message: _Message) -> None:
        message.is_done = True
        self._unconfirmed_bytes -= len(message.body)
        while self._unconfirmed and self._unconfirmed[0].is_done:
            self._unconfirmed.popleft()


MAX_RESULTS_MESSAGE_BYTES = 1024 * 1024
"""Of one message, give or take one item. Brokers refuse messages above their own bound (16 MiB in RabbitMQ
4), and readers hold a message as a whole."""

NO_SPANS: Mapping[int, SpanContext] = {}


@dataclass(frozen=True, slots=True)
class ResultPublisher:
    """Publishes the results of committed batches."""

    events: EventPublisher
    replies: Publisher
    workflow: Workflow

    async def publish_events(
        self, events: Sequence[EventDocument], spans: Mapping[int, SpanContext] = NO_SPANS
    ) -> None:
        """Starts to send committed events, those of each partition in seq order. Waits for no confirm: no
        queue of a notifier may hold up replies and acknowledgements, and the log has the events. `spans`
        are the publishing spans of sampled events, by their number.

        Raises:
            BrokerUnavailable: the connection is gone.
        """
        encoded = [orjson.dumps(cloud_event(event, self.workflow)) for event in events]
        begin = 0
        for body, number in _messages(encoded):
            if spans:
                own = {at - begin: span for at, span in spans.items() if begin <= at < begin + number}
                self.events.send(body, headers_for(own))
            else:
                self.events.send(body)
            begin += number
        await asyncio.sleep(0)  # their first bytes go out before the replies

    async def reply(self, reply_to: str, replies: list[Reply]) -> None:
        """Sends outcomes to one ingest. If it is gone, nobody waits for them and they are dropped.

        Raises:
            BrokerUnavailable: the connection is gone.
        """
        for body, _ in _messages([orjson.dumps(reply) for reply in replies]):
            await self.replies.publish(
                reply_to, body, content_type=REPLIES_MEDIA_TYPE, headers=message_headers(REPLIES)
            )


def _messages(encoded: list[bytes]) -> Iterator[tuple[bytes, int]]:
    """Bodies, and how many items are in each."""
    chunk: list[bytes] = []
    size = 0
    for item in encoded:
        chunk.append(item)
        size += len(item)
        if size >= MAX_RESULTS_MESSAGE_BYTES:
            yield b"[" + b",".join(chunk) + b"]", len(chunk)
            chunk, size = [], 0
    if chunk:
        yield b"[" + b",".join(chunk) + b"]", len(chunk)


async def open_publisher(connection: Connection, workflow: Workflow) -> ResultPublisher:
    """Opens a publisher on this connection, once the broker takes messages.

    Raises:
        BrokerUnavailable: the connection is gone, or the broker takes nothing now.
    """
    # Under an alarm (memory, disk) the broker delivers, but takes nothing. Commands that were consumed then
    # would go back unpublished, again and again, until the delivery limit is reached.
    await connection.check("")
    return ResultPublisher(
        events=EventPublisher(await connection.publisher(EVENTS_EXCHANGE, mandatory=False)),
        replies=await connection.publisher("", mandatory=False, confirms=False),
        workflow=workflow,
    )
