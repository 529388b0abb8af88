"""Tells the world: events to the fanout exchange, outcomes to the ingests that wait for them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

from shared.broker import Connection, Publisher
from shared.documents import EventDocument
from shared.outcomes import REPLIES_MEDIA_TYPE, Reply, encode_replies
from shared.topology import EVENTS_EXCHANGE
from shared.views import cloud_event
from shared.workflow import Workflow

EVENTS_MEDIA_TYPE = "application/cloudevents-batch+json"

MAX_ANNOUNCED_BYTES = 1024 * 1024
"""Of one message, give or take one event: what a notifier must hold to read it."""


@dataclass(frozen=True, slots=True)
class Announcer:
    """Publishes what was committed."""

    events: Publisher
    replies: Publisher
    workflow: Workflow

    async def announce(self, events: Sequence[EventDocument]) -> None:
        """Publishes committed events of one partition in seq order; returns when the broker has them.

        Raises:
            BrokerUnavailable: they may not have arrived; announce them again.
        """
        encoded = [orjson.dumps(cloud_event(event, self.workflow)) for event in events]
        for body in _messages(encoded):
            await self.events.publish("", body, content_type=EVENTS_MEDIA_TYPE)

    async def reply(self, reply_to: str, replies: list[Reply]) -> None:
        """Sends outcomes to one ingest. If it is gone, nobody waits and they are dropped.

        Raises:
            BrokerUnavailable: the connection is gone.
        """
        await self.replies.publish(reply_to, encode_replies(replies), content_type=REPLIES_MEDIA_TYPE)


def _messages(encoded: list[bytes]) -> Iterator[bytes]:
    chunk: list[bytes] = []
    size = 0
    for event in encoded:
        chunk.append(event)
        size += len(event)
        if size >= MAX_ANNOUNCED_BYTES:
            yield b"[" + b",".join(chunk) + b"]"
            chunk, size = [], 0
    if chunk:
        yield b"[" + b",".join(chunk) + b"]"


async def open_announcer(connection: Connection, workflow: Workflow) -> Announcer:
    """An announcer on this connection.

    Raises:
        BrokerUnavailable: the connection is gone.
    """
    return Announcer(
        events=await connection.publisher(EVENTS_EXCHANGE, mandatory=False),
        replies=await connection.publisher("", mandatory=False, confirms=False),
        workflow=workflow,
    )
