"""Messages that the broker delivers, and the consumers that receive them."""

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from tracking_shared.contracts.formats import FORMAT, Format, is_newer
from tracking_shared.messaging.errors import (
    DRIVER_ERRORS,
    bounded,
    fault_of,
)


@dataclass(frozen=True, slots=True)
class Death:
    """The reason for which a message was dead-lettered, as the broker states it."""

    queue: str
    """The one that it came from."""
    reason: str
    """`rejected`, or `delivery_limit`: returned too often."""
    time: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that was delivered. It is ours until acknowledged, or until its channel closes."""

    body: bytes
    redelivered: bool
    reply_to: str | None
    message_id: str | None
    _message: AbstractIncomingMessage

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers of the message."""
        return self._message.headers

    @property
    def death(self) -> Death | None:
        """Its newest one, if it was ever dead-lettered."""
        match self._message.headers.get("x-death"):
            case [{"queue": str(queue), "reason": str(reason), "time": datetime() as time}, *_]:
                return Death(queue, reason, time)
        return None

    async def acknowledge(self) -> None:
        """Acknowledges this message alone."""
        try:
            await self._message.ack()
        except DRIVER_ERRORS as error:
            raise fault_of("acknowledge", error) from error

    async def acknowledge_through(self) -> None:
        """Acknowledges this message and every earlier one of its consumer."""
        try:
            await self._message.ack(multiple=True)
        except DRIVER_ERRORS as error:
            raise fault_of("acknowledge", error) from error

    async def dead_letter(self) -> None:
        """Refuses this one message for good; the broker moves it to the dead-letter queue."""
        try:
            await self._message.reject(requeue=False)
        except DRIVER_ERRORS as error:
            raise fault_of("reject", error) from error


@dataclass(frozen=True, slots=True)
class NewerMessage:
    """A message in a format that this release does not read."""

    version: int
    returns: int
    """How often it has gone back to its queue so far, which the delivery limit bounds."""


class Consumer:
    """Deliveries of one queue in their order, on a channel of its own. Bounded by the prefetch.

    With a `form`, messages in a newer format of it than this release reads are not taken: they stay
    unacknowledged until the channel is closed, and so do those behind them.
    """

    def __init__(self, channel: AbstractChannel, prefetch: int, form: Format | None = None) -> None:
        self._channel = channel
        self._prefetch = prefetch
        self._form = form
        self._arrived: deque[AbstractIncomingMessage] = deque()
        self._something = asyncio.Event()
        self._closed = False
        self._newest: AbstractIncomingMessage | None = None
        self.arrivals = 0
        """The number of messages that the broker has delivered so far."""
        channel.close_callbacks.add(self._on_close)

    async def start(self, queue_name: str) -> None:
        """Subscribes. Deliveries may begin at once, or later as a standby."""
        # A queue that is deleted ends the subscription, not the channel. For its reader that is the same.
        (await self._channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(self._on_close)
        queue = await self._channel.get_queue(queue_name, ensure=False)
        await queue.consume(self._on_message)

    async def arrival(self) -> None:
        """Returns when something has arrived, or the channel is closed."""
        await self._something.wait()

    def take(self, limit: int) -> list[Delivery]:
        """The messages that have arrived, at most `limit`. Empty: nothing, or the channel is closed (whatever
        had arrived on it comes again elsewhere).
        """
        if self._closed:
            return []
        taken = [delivery_of(self._arrived.popleft()) for _ in range(min(limit, len(self._arrived)))]
        if not self._arrived:
            self._something.clear()
        return taken

    def peek(self) -> bytes | None:
        """The body of the first message that has arrived and is not taken."""
        return self._arrived[0].body if self._arrived else None

    def take_bytes(self, limit: int) -> list[Delivery]:
        """Like `take`, but at most `limit` bytes, or one delivery if that is larger; and none from the first
        one on that is in a newer format.
        """
        size = 0
        number = 0
        for message in self._arrived:
            size += len(message.body)
            if (number and size > limit) or self._is_newer(message):
                break
            number += 1
        return self.take(number)

    @property
    def first_newer(self) -> NewerMessage | None:
        """The first message that has arrived and is not taken, if it is in a newer format. It stays."""
        if not self._arrived or not self._is_newer(self._arrived[0]):
            return None
        headers = self._arrived[0].headers
        returns = headers.get("x-delivery-count", 0)
        return NewerMessage(cast(int, headers[FORMAT]), returns if isinstance(returns, int) else 0)

    def _is_newer(self, message: AbstractIncomingMessage) -> bool:
        return self._form is not None and is_newer(self._form, message.headers)

    @property
    def is_closed(self) -> bool:
        """True if the channel is closed, or the queue is gone: nothing will arrive any more."""
        return self._closed

    @property
    def has_unsettled(self) -> bool:
        """True if something that was delivered is not acknowledged yet, nor refused."""
        return self._newest is not None and not self._newest.processed

    async def next_batch(self, limit: int) -> list[Delivery]:
        """`arrival`, then `take`. Empty: the channel is closed."""
        await self.arrival()
        return self.take(limit)

    async def check(self) -> None:
        """Asks the broker whether the channel still lives: a process that was frozen cannot know.

        Raises:
            BrokerUnavailable: it does not; whatever had arrived on it is somebody else's by now.
        """
        async with bounded("check of a channel"):
            await self._channel.set_qos(prefetch_count=self._prefetch)

    async def close(self) -> None:
        """Closes the channel: what was not acknowledged goes back to its place in the queue."""
        with suppress(*DRIVER_ERRORS):
            await self._channel.close()

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        self._arrived.append(message)
        self._newest = message
        self.arrivals += 1
        self._something.set()

    def _on_close(self, *_: object) -> None:
        self._closed = True
        self._arrived.clear()
        self._something.set()


def delivery_of(message: AbstractIncomingMessage) -> Delivery:
    return Delivery(message.body, bool(message.redelivered), message.reply_to, message.message_id, message)
