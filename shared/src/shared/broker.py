"""The broker adapter: the only module that imports aio-pika.

Connections here are plain, not self-restoring ones: what must happen after a loss (forget the
deliveries in hand, read the position again, fill a gap) is for the service to decide, so a service
runs `serve_connections` with a function that lives exactly as long as one connection.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

import aio_pika
import aiormq.exceptions
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractIncomingMessage
from tenacity import AsyncRetrying, retry_if_exception, stop_never, wait_random_exponential

from shared.topology import (
    COMMANDS_EXCHANGE,
    DEAD_EXCHANGE,
    DEAD_QUEUE,
    EVENTS_EXCHANGE,
    Queue,
    dead_queue,
    partition_queue,
)

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 6
"""A dead peer is noticed after about three of them. `?heartbeat=` in the URL says otherwise."""

CONNECT_TIMEOUT_SECONDS = 5
SETUP_TIMEOUT_SECONDS = 15
"""For opening a channel, declaring all queues (a cluster takes its time for the first ones), subscribing."""

PUBLISH_TIMEOUT_SECONDS = 5
"""A confirm takes milliseconds; one that takes this long is treated as unknown."""

BLOCKED_SECONDS = 0.05
"""A connection that is not blocked says so at once."""

MAX_RECONNECT_WAIT_SECONDS = 5

_DRIVER_ERRORS = (
    aio_pika.exceptions.AMQPError,
    aiormq.exceptions.AMQPError,
    aiormq.exceptions.ChannelInvalidStateError,
    OSError,
    asyncio.TimeoutError,
    RuntimeError,  # aio-pika: "Connection was not opened", and the like, while a connection dies
)


class BrokerUnavailable(Exception):
    """The broker could not be reached, or did not confirm in time: what became of the message is unknown."""


class PublishRefused(BrokerUnavailable):
    """The broker answered that it did not take the message (queue full, or no queue)."""


@dataclass(frozen=True, slots=True)
class Death:
    """Why a message was dead-lettered, as the broker tells it."""

    queue: str
    """Where it was before."""
    reason: str
    """`rejected`, or `delivery_limit`: returned too often."""
    time: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message in hand. It is ours until acknowledged, or until its channel closes."""

    body: bytes
    redelivered: bool
    reply_to: str | None
    message_id: str | None
    _message: AbstractIncomingMessage

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
        except _DRIVER_ERRORS as error:
            raise BrokerUnavailable(f"acknowledge: {error!r}") from error

    async def acknowledge_through(self) -> None:
        """Acknowledges this message and every earlier one of its consumer."""
        try:
            await self._message.ack(multiple=True)
        except _DRIVER_ERRORS as error:
            raise BrokerUnavailable(f"acknowledge: {error!r}") from error

    async def dead_letter(self) -> None:
        """Refuses this one message for good; the broker moves it to the dead-letter queue."""
        try:
            await self._message.reject(requeue=False)
        except _DRIVER_ERRORS as error:
            raise BrokerUnavailable(f"reject: {error!r}") from error


class Publisher:
    """Publishes to one exchange, persistent, mandatory where asked for, and waits for the confirm."""

    def __init__(self, exchange: AbstractExchange, *, mandatory: bool) -> None:
        self._exchange = exchange
        self._mandatory = mandatory

    async def publish(
        self,
        routing_key: str,
        body: bytes,
        *,
        content_type: str,
        message_id: str | None = None,
        reply_to: str | None = None,
    ) -> None:
        """Returns when the broker has the message (with confirms) or the socket has (without).

        Raises:
            PublishRefused: the broker said no: a full queue, or none bound (if mandatory).
            BrokerUnavailable: no answer within `PUBLISH_TIMEOUT_SECONDS`, or the connection is gone.
        """
        message = aio_pika.Message(
            body,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            content_type=content_type,
            message_id=message_id,
            reply_to=reply_to,
        )
        try:
            await self._exchange.publish(
                message, routing_key, mandatory=self._mandatory, timeout=PUBLISH_TIMEOUT_SECONDS
            )
        except (aio_pika.exceptions.DeliveryError, aiormq.exceptions.PublishError) as error:
            raise PublishRefused(f"{self._exchange.name}/{routing_key}: {error!r}") from error
        except _DRIVER_ERRORS as error:
            raise BrokerUnavailable(f"{self._exchange.name}/{routing_key}: {error!r}") from error


class Consumer:
    """Deliveries of one queue in their order, on a channel of its own. Bounded by the prefetch."""

    def __init__(self, channel: AbstractChannel, prefetch: int) -> None:
        self._channel = channel
        self._prefetch = prefetch
        self._arrived: deque[AbstractIncomingMessage] = deque()
        self._something = asyncio.Event()
        self._closed = False
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
        """What has arrived, at most `limit`. Empty: nothing, or the channel is closed (whatever had
        arrived on it comes again elsewhere).
        """
        if self._closed:
            return []
        taken = [_delivery(self._arrived.popleft()) for _ in range(min(limit, len(self._arrived)))]
        if not self._arrived:
            self._something.clear()
        return taken

    def take_bytes(self, limit: int) -> list[Delivery]:
        """Like `take`, but at most `limit` bytes, or one delivery if that is larger."""
        size = 0
        number = 0
        for message in self._arrived:
            size += len(message.body)
            if number and size > limit:
                break
            number += 1
        return self.take(number)

    @property
    def is_closed(self) -> bool:
        """Whether the channel is closed, or the queue is gone: nothing will arrive any more."""
        return self._closed

    async def next_batch(self, limit: int) -> list[Delivery]:
        """`arrival`, then `take`. Empty: the channel is closed."""
        await self.arrival()
        return self.take(limit)

    async def check(self) -> None:
        """Asks the broker whether the channel still lives: a process that was frozen cannot know.

        Raises:
            BrokerUnavailable: it does not; whatever had arrived on it is somebody else's by now.
        """
        async with _bounded("check of a channel"):
            await self._channel.set_qos(prefetch_count=self._prefetch)

    async def close(self) -> None:
        """Closes the channel: what was not acknowledged goes back to its place in the queue."""
        with suppress(*_DRIVER_ERRORS):
            await self._channel.close()

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        self._arrived.append(message)
        self._something.set()

    def _on_close(self, *_: object) -> None:
        self._closed = True
        self._arrived.clear()
        self._something.set()


def _delivery(message: AbstractIncomingMessage) -> Delivery:
    return Delivery(message.body, bool(message.redelivered), message.reply_to, message.message_id, message)


class Connection:
    """One connection to the broker."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._channels: list[AbstractChannel] = []  # strong references: the library keeps weak ones
        self._trials: dict[str, Publisher] = {}

    async def declare(self, partitions: int) -> None:
        """Declares every exchange and queue. Idempotent.

        Raises:
            BrokerUnavailable: also when an exchange or the queue of a partition exists with other arguments.
        """
        async with _bounded("declare"):
            await self._declare_dead_queue()
            channel = await self._connection.channel()
            await channel.declare_exchange(COMMANDS_EXCHANGE, aio_pika.ExchangeType.DIRECT, durable=True)
            await channel.declare_exchange(EVENTS_EXCHANGE, aio_pika.ExchangeType.FANOUT, durable=True)
            for partition in range(partitions):
                await _declare_queue(channel, partition_queue(partition))
            await channel.close()

    async def _declare_dead_queue(self) -> None:
        channel = await self._connection.channel()
        await channel.declare_exchange(DEAD_EXCHANGE, aio_pika.ExchangeType.FANOUT, durable=True)
        try:
            await _declare_queue(channel, dead_queue())
        except aiormq.exceptions.ChannelPreconditionFailed:  # the broker has closed the channel
            log.info("%s has the arguments of an earlier version; it stays as it is", DEAD_QUEUE)
        else:
            await channel.close()

    async def ensure(self, partitions: int) -> None:
        """Like `declare`, but what exists already is taken as it is. For those who use the exchanges and
        queues and need not be allowed to configure them, nor, which goes with it, to read every queue.

        Raises:
            BrokerUnavailable: also when something is missing and may not be declared.
        """
        if not await self._is_declared(partitions):
            await self.declare(partitions)

    async def _is_declared(self, partitions: int) -> bool:
        async with _bounded("look for what is declared"):
            channel = await self._connection.channel()
            try:
                for exchange in (COMMANDS_EXCHANGE, EVENTS_EXCHANGE, DEAD_EXCHANGE):
                    await channel.declare_exchange(exchange, passive=True)
                for partition in range(partitions):
                    await channel.declare_queue(partition_queue(partition).name, passive=True)
            except aiormq.exceptions.ChannelNotFoundEntity:
                return False  # and the broker has closed the channel
            await channel.close()
        return True

    async def publisher(
        self, exchange_name: str, *, mandatory: bool = True, confirms: bool = True
    ) -> Publisher:
        """A publisher on a channel of its own. "" is the default exchange (straight to a queue).

        Raises:
            BrokerUnavailable: the connection is gone.
        """
        async with _bounded("open channel"):
            channel = await self._connection.channel(
                publisher_confirms=confirms, on_return_raises=confirms and mandatory
            )
            exchange = (
                await channel.get_exchange(exchange_name, ensure=False)
                if exchange_name
                else channel.default_exchange
            )
        self._channels.append(channel)
        return Publisher(exchange, mandatory=mandatory and confirms)

    async def consumer(self, queue_name: str, *, prefetch: int) -> Consumer:
        """A consumer with acknowledgements on a channel of its own.

        Raises:
            BrokerUnavailable: the connection is gone, or there is no such queue.
        """
        async with _bounded(f"consume {queue_name}"):
            channel = await self._connection.channel(publisher_confirms=False)
            await channel.set_qos(prefetch_count=prefetch)
            consumer = Consumer(channel, prefetch)
            await consumer.start(queue_name)
        return consumer

    async def private_consumer(self, exchange_name: str | None, *, limit: int) -> tuple[str, Consumer]:
        """An exclusive queue that goes with the connection, bound to a fanout exchange if one is named.

        At most `limit` messages wait in it; the broker drops the oldest beyond that, which its
        reader must be able to notice.

        Raises:
            BrokerUnavailable: the connection is gone.
        """
        async with _bounded("private queue"):
            channel = await self._connection.channel(publisher_confirms=False)
            await channel.set_qos(prefetch_count=PRIVATE_PREFETCH)
            queue = await channel.declare_queue(
                exclusive=True, auto_delete=True, arguments={"x-max-length": limit}
            )
            if exchange_name is not None:
                await queue.bind(exchange_name)
            consumer = Consumer(channel, PRIVATE_PREFETCH)
            await consumer.start(queue.name)
        return queue.name, consumer

    async def depth(self, queue_name: str) -> int:
        """How many messages are ready in a queue (those in hand of a consumer are not).

        Raises:
            BrokerUnavailable: the connection is gone, or there is no such queue.
        """
        async with _bounded(f"depth of {queue_name}"):
            channel = await self._connection.channel()
            queue = await channel.declare_queue(queue_name, passive=True)
            await channel.close()
        return queue.declaration_result.message_count or 0

    async def check(self, exchange_name: str) -> None:
        """Asks the broker whether it takes messages, with one to a direct exchange that goes to no queue.

        Raises:
            BrokerUnavailable: it does not, for an alarm (memory, disk) or because it is gone.
        """
        # Under an alarm it answers everything, and tells only those who publish, after their first message.
        await self._refuse_blocked()
        trial = self._trials.get(exchange_name)
        if trial is None:
            trial = self._trials[exchange_name] = await self.publisher(exchange_name, mandatory=False)
        await trial.publish("", b"", content_type="text/plain")
        await self._refuse_blocked()

    async def _refuse_blocked(self) -> None:
        transport = self._connection.transport
        if transport is None:
            raise BrokerUnavailable("the connection is gone")
        try:
            async with asyncio.timeout(BLOCKED_SECONDS):
                await transport.connection.ready()
        except TimeoutError:
            raise BrokerUnavailable("the broker takes no messages: it has an alarm") from None

    async def closed(self) -> None:
        """Returns when the connection is lost or closed."""
        await self._connection.closed()


PRIVATE_PREFETCH = 100


@asynccontextmanager
async def _bounded(what: str) -> AsyncIterator[None]:
    """Ends in time, and with our own error: a broken queue may never answer."""
    try:
        async with asyncio.timeout(SETUP_TIMEOUT_SECONDS):
            yield
    except _DRIVER_ERRORS as error:
        raise BrokerUnavailable(f"{what}: {error!r}") from error


async def _declare_queue(channel: AbstractChannel, queue: Queue) -> None:
    declared = await channel.declare_queue(queue.name, durable=True, arguments=queue.arguments)
    await declared.bind(queue.exchange, routing_key=queue.routing_key)


@asynccontextmanager
async def connect(url: str, name: str) -> AsyncIterator[Connection]:
    """One connection, closed at the end.

    Raises:
        BrokerUnavailable: it cannot be opened.
    """
    # The class, not aio_pika's `connect`: that leaves a failed attempt to the garbage collector, which
    # may come when no event loop runs.
    connection = aio_pika.Connection(
        aio_pika.connection.make_url(url, heartbeat=None if "heartbeat=" in url else HEARTBEAT_SECONDS),
        client_properties={"connection_name": name},
    )
    try:
        await _open(connection)
        yield Connection(connection)
    finally:
        with suppress(*_DRIVER_ERRORS):
            await connection.close()


async def _open(connection: aio_pika.Connection) -> None:
    try:
        await connection.connect(timeout=CONNECT_TIMEOUT_SECONDS)
    except (*_DRIVER_ERRORS, ValueError) as error:
        raise BrokerUnavailable(f"connect: {error!r}") from error


async def serve_connections(url: str, name: str, serve: Callable[[Connection], Awaitable[None]]) -> None:
    """Runs `serve` with a connection, and again with a new one whenever the broker was lost.

    Waits between attempts grow to `MAX_RECONNECT_WAIT_SECONDS`, with jitter. Ends when `serve`
    returns, or with what it raises other than `BrokerUnavailable`.
    """
    async for attempt in AsyncRetrying(
        retry=retry_if_exception(_is_broker_loss),
        wait=wait_random_exponential(multiplier=0.1, max=MAX_RECONNECT_WAIT_SECONDS),
        stop=stop_never,
        before_sleep=lambda state: log.warning(
            "broker away: %s", state.outcome and state.outcome.exception()
        ),
    ):
        with attempt:
            await _heeding_cancellation(_serve_connection(url, name, serve))


async def _serve_connection(url: str, name: str, serve: Callable[[Connection], Awaitable[None]]) -> None:
    async with connect(url, name) as connection:
        log.info("broker connected")
        await serve(connection)


async def _heeding_cancellation(work: Coroutine[None, None, None]) -> None:
    """Awaits `work`. Told to end meanwhile, it raises that, whatever error `work` ends with.

    The driver answers a cancellation with an error of its own while it connects, and in a task group
    the error of a member goes before it. `gather` remembers; `Task.cancelling` cannot tell, since a
    task group of Python 3.11 that has fallen may leave it raised.
    """
    (outcome,) = await asyncio.gather(work, return_exceptions=True)
    if isinstance(outcome, BaseException):
        raise outcome


def _is_broker_loss(error: BaseException) -> bool:
    """Also true for a group (of tasks that shared the connection) in which all fell to the loss."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(BrokerUnavailable)[1] is None
    return isinstance(error, BrokerUnavailable)
