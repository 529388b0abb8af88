"""Tells the world: events to the fanout exchange, outcomes to the ingests that wait for them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

from order_state import metrics
from shared.broker import Connection, Publisher, PublishRefused
from shared.documents import EventDocument
from shared.messages import EVENTS_MEDIA_TYPE
from shared.outcomes import REPLIES_MEDIA_TYPE, Reply
from shared.topology import EVENTS_EXCHANGE
from shared.views import cloud_event
from shared.workflow import Workflow

MAX_MESSAGE_BYTES = 1024 * 1024
"""Of one message, give or take one item. Brokers refuse what is larger than their own bound (16 MiB in
RabbitMQ 4), and readers hold a message as a whole."""


@dataclass(frozen=True, slots=True)
class Announcer:
    """Publishes what was committed."""

    events: Publisher
    replies: Publisher
    workflow: Workflow

    async def announce(self, events: Sequence[EventDocument]) -> None:
        """Publishes committed events, those of each partition in seq order; returns when the broker has them.

        A refusal is only counted: it says that a queue bound there is full, and somebody else's full queue
        must not hold up all orders. The other queues have the events, and the log has them for everybody.

        Raises:
            BrokerUnavailable: they may not have arrived; announce them again.
        """
        encoded = [orjson.dumps(cloud_event(event, self.workflow)) for event in events]
        for body in _messages(encoded):
            try:
                await self.events.publish("", body, content_type=EVENTS_MEDIA_TYPE)
            except PublishRefused:
                metrics.ANNOUNCEMENTS_REFUSED.inc()

    async def reply(self, reply_to: str, replies: list[Reply]) -> None:
        """Sends outcomes to one ingest. If it is gone, nobody waits and they are dropped.

        Raises:
            BrokerUnavailable: the connection is gone.
        """
        for body in _messages([orjson.dumps(reply) for reply in replies]):
            await self.replies.publish(reply_to, body, content_type=REPLIES_MEDIA_TYPE)


def _messages(encoded: list[bytes]) -> Iterator[bytes]:
    chunk: list[bytes] = []
    size = 0
    for item in encoded:
        chunk.append(item)
        size += len(item)
        if size >= MAX_MESSAGE_BYTES:
            yield b"[" + b",".join(chunk) + b"]"
            chunk, size = [], 0
    if chunk:
        yield b"[" + b",".join(chunk) + b"]"


async def open_announcer(connection: Connection, workflow: Workflow) -> Announcer:
    """An announcer on this connection, once the broker takes messages.

    Raises:
        BrokerUnavailable: the connection is gone, or the broker takes nothing now.
    """
    # Under an alarm (memory, disk) the broker delivers, but takes nothing. Commands that were taken in hand
    # then would go back unannounced, again and again, until the delivery limit is reached.
    await connection.check("")
    return Announcer(
        events=await connection.publisher(EVENTS_EXCHANGE, mandatory=False),
        replies=await connection.publisher("", mandatory=False, confirms=False),
        workflow=workflow,
    )
