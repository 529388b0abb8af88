"""Wakes the reader of the log when the broker announces events, which are read from the log."""

from functools import partial

from tracking_shared.messaging.connection import Connection
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.messaging.topology import EVENTS_EXCHANGE
from tracking_webhooks.processing.tail import Tail

QUEUE_MESSAGES = 10
"""Limit of our broker queue. Any one message says what matters: that there is something new."""


class WakeUp:
    """Listens to one connection after the other. Without a broker, the tail polls."""

    def __init__(self, tail: Tail, partitions: int) -> None:
        self._tail = tail
        self._partitions = partitions

    async def serve(self, connection: Connection) -> None:
        """Wakes the tail at each message until the connection fails.

        Raises:
            BrokerUnavailable: always in the end.
        """
        _, consumer = await connection.with_declared(
            self._partitions, partial(connection.private_consumer, EVENTS_EXCHANGE, limit=QUEUE_MESSAGES)
        )
        connection.in_service = self._tail.has_broker = True
        try:
            while deliveries := await consumer.next_batch(QUEUE_MESSAGES):
                self._tail.wake()
                await deliveries[-1].acknowledge_through()
        finally:
            self._tail.has_broker = False
        raise BrokerUnavailable("the connection was lost")
