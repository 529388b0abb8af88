"""The broker adapter: with `broker_opening` and `broker_faults`, the only module that imports aio-pika.

Connections here are plain, not self-restoring ones: what must happen after a loss (forget the
deliveries in hand, read the position again, fill a gap) is for the service to decide, so a service
runs `serve_connections` with a function that lives exactly as long as one connection.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from random import uniform
from typing import TypeVar

import aio_pika
import aiormq.exceptions
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractIncomingMessage
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_never

from shared.broker_addresses import Address, NotResolved, addresses
from shared.broker_faults import (
    DRIVER_ERRORS,
    AccessRefused,
    BrokerBlocked,
    BrokerRefused,
    BrokerUnavailable,
    NotDeclared,
    PublishRefused,
    fault_of,
    is_broker_loss,
    refusal_in,
)
from shared.broker_opening import close_quietly, open_address
from shared.topology import (
    COMMANDS_EXCHANGE,
    DEAD_EXCHANGE,
    DEAD_QUEUE,
    EVENTS_EXCHANGE,
    Queue,
    dead_queue,
    partition_queue,
)

__all__ = [
    "AccessRefused",
    "BrokerBlocked",
    "BrokerRefused",
    "BrokerUnavailable",
    "NotDeclared",
    "PublishRefused",
]
"""What others import from here although it is defined elsewhere."""

log = logging.getLogger(__name__)

SETUP_TIMEOUT_SECONDS = 15
"""For opening a channel, declaring all queues (a cluster takes its time for the first ones), subscribing."""

PUBLISH_TIMEOUT_SECONDS = 5
"""A confirm takes milliseconds; one that takes this long is treated as unknown."""

MAX_RECONNECT_WAIT_SECONDS = 5

REFUSALS_AT_START = 3
"""So many in a row, `REFUSED_WAIT_SECONDS` apart, are believed: a node that has just started, or cannot reach
its metadata store for a moment, may say that a user or a virtual host is not there (RabbitMQ 4.3.0 does)."""

REFUSED_WAIT_SECONDS = 1.0

T = TypeVar("T")


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


ALARM = "it has an alarm (memory or disk)"


class Publisher:
    """Publishes to one exchange, persistent, mandatory where asked for, and waits for the confirm."""

    def __init__(
        self, exchange: AbstractExchange, *, mandatory: bool, is_blocked: Callable[[], bool]
    ) -> None:
        self._exchange = exchange
        self._mandatory = mandatory
        self._is_blocked = is_blocked

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
            BrokerBlocked: the broker has an alarm. Nothing was sent, or it may be taken when that is over.
            BrokerUnavailable: no answer within `PUBLISH_TIMEOUT_SECONDS`, or the connection is gone.
        """
        if self._is_blocked():
            raise BrokerBlocked(ALARM)
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
        except DRIVER_ERRORS as error:
            if isinstance(error, asyncio.TimeoutError) and self._is_blocked():
                raise BrokerBlocked(ALARM) from error
            raise fault_of(f"{self._exchange.name}/{routing_key}", error) from error


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
        with suppress(*DRIVER_ERRORS):
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

    def __init__(self, connection: AbstractConnection, address: Address) -> None:
        self._connection = connection
        self.address = address
        self.in_service = False
        """Set by who serves over it, once it has all that it needs: a refusal after that is not one of the
        configuration that it was started with."""
        self._channels: list[AbstractChannel] = []  # strong references: the library keeps weak ones
        self._trials: dict[str, Publisher] = {}

    async def declare(self, partitions: int) -> None:
        """Declares every exchange and queue. Idempotent.

        Raises:
            BrokerRefused: the user may not, or an exchange or the queue of a partition exists with other
                arguments.
            BrokerUnavailable: the connection is gone.
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

    async def with_declared(self, partitions: int, use: Callable[[], Awaitable[T]]) -> T:
        """What `use` returns, once what it uses is there: what is missing is declared by those who may. It is
        used, not asked for: who uses exchanges and queues has no right to configure them, and RabbitMQ 4.2.6
        and 4.3.0 refuse the question (a passive declaration) to all others, later ones to those without any
        right on the resource.

        Raises:
            NotDeclared: it is missing, and this user may not declare it.
            BrokerUnavailable: as `use` and `declare`.
        """
        try:
            return await use()
        except NotDeclared as missing:
            try:
                await self.declare(partitions)
            except AccessRefused:
                raise missing from None
        return await use()

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
        return Publisher(exchange, mandatory=mandatory and confirms, is_blocked=lambda: self.is_blocked)

    async def consumer(self, queue_name: str, *, prefetch: int) -> Consumer:
        """A consumer with acknowledgements on a channel of its own.

        Raises:
            NotDeclared: there is no such queue.
            BrokerUnavailable: the connection is gone.
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
            NotDeclared: there is no such exchange.
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
            AccessRefused: from RabbitMQ 4.2.6 on, only users with some right on the queue may know it.
            NotDeclared: there is no such queue.
            BrokerUnavailable: the connection is gone.
        """
        async with _bounded(f"depth of {queue_name}"):
            channel = await self._connection.channel()
            queue = await channel.declare_queue(queue_name, passive=True)
            await channel.close()
        return queue.declaration_result.message_count or 0

    async def browse(self, queue_name: str, limit: int) -> tuple[int, list[Delivery]]:
        """How many messages are ready in a queue, and the first `limit` of them, one at least. They go back
        when the connection is closed. It takes the right to read the queue and no other.

        Raises:
            NotDeclared: there is no such queue.
            BrokerUnavailable: the connection is gone.
        """
        async with _bounded(f"browse {queue_name}"):
            channel = await self._connection.channel(publisher_confirms=False)
            self._channels.append(channel)
            queue = await channel.get_queue(queue_name, ensure=False)
            ready = 0
            found: list[Delivery] = []
            while len(found) < max(limit, 1) and (message := await queue.get(fail=False)) is not None:
                found.append(_delivery(message))
                ready = len(found) + (message.message_count or 0)
        return ready, found

    @property
    def is_blocked(self) -> bool:
        """Whether the broker has said that it takes no messages from here, because of an alarm.

        It says so only to those who publish, after their first message.
        """
        transport = self._connection.transport
        if transport is None:
            return False
        # The driver only lets one wait for the end of it. Whoever need not wait is through at the first step.
        unblocked = transport.connection.ready()
        try:
            unblocked.send(None)
        except StopIteration:
            return False
        unblocked.close()
        return True

    async def check(self, exchange_name: str) -> None:
        """Asks the broker whether it takes messages, with one to a direct exchange that goes to no queue.

        Raises:
            BrokerBlocked: it does not, for an alarm (memory, disk).
            NotDeclared: there is no such exchange.
            BrokerUnavailable: it does not answer.
        """
        trial = self._trials.pop(exchange_name, None)
        if trial is None:
            trial = await self.publisher(exchange_name, mandatory=False)
        await trial.publish("", b"", content_type="text/plain")
        self._trials[exchange_name] = trial  # not one that has failed: its channel may be closed
        if self.is_blocked:  # which it says before it confirms
            raise BrokerBlocked(ALARM)

    async def close(self) -> None:
        """Closes it, whatever state it is in."""
        await close_quietly(self._connection)


PRIVATE_PREFETCH = 100


@asynccontextmanager
async def _bounded(what: str) -> AsyncIterator[None]:
    """Ends in time, and with our own error: a broken queue may never answer."""
    try:
        async with asyncio.timeout(SETUP_TIMEOUT_SECONDS):
            yield
    except DRIVER_ERRORS as error:
        raise fault_of(what, error) from error


async def _declare_queue(channel: AbstractChannel, queue: Queue) -> None:
    declared = await channel.declare_queue(queue.name, durable=True, arguments=queue.arguments)
    await declared.bind(queue.exchange, routing_key=queue.routing_key)


@asynccontextmanager
async def connect(url: str, name: str, *, lost: Address | None = None) -> AsyncIterator[Connection]:
    """One connection, closed at the end: to the first address of `url` that answers. `lost` is asked last.

    Raises:
        BrokerRefused: no address let us in, and one of them refused to.
        BrokerUnavailable: no address answered.
    """
    connection = await _open_first(url, name, lost)
    try:
        yield connection
    finally:
        await connection.close()


async def _open_first(url: str, name: str, lost: Address | None) -> Connection:
    faults: list[Exception] = []
    async with aclosing(addresses(url, lost)) as candidates:
        async for address in candidates:
            if isinstance(address, NotResolved):
                faults.append(address)
                continue
            try:
                return Connection(await open_address(address, name), address)
            except BrokerUnavailable as error:
                faults.append(error)
    kind = BrokerRefused if any(isinstance(fault, BrokerRefused) for fault in faults) else BrokerUnavailable
    raise kind("; ".join(map(str, faults)))


async def serve_connections(
    url: str,
    name: str,
    serve: Callable[[Connection], Awaitable[None]],
    on_loss: Callable[[BrokerUnavailable], None] = lambda _: None,
) -> None:
    """Runs `serve` with a connection, and again with a new one whenever the broker was lost.

    Waits between attempts grow to `MAX_RECONNECT_WAIT_SECONDS`, with jitter. `on_loss` is told whether
    it was refused. Ends when `serve` returns, or with what it raises other than `BrokerUnavailable`.

    Raises:
        BrokerRefused: `REFUSALS_AT_START` times in a row, and no connection was ever in service. Later on
            somebody has changed something under a running service, and may change it back: it is tried again.
    """
    serving = _Serving(url, name, serve, on_loss)
    async for attempt in AsyncRetrying(
        retry=retry_if_exception(serving.is_tried_again), wait=serving.wait_seconds, stop=stop_never
    ):
        with attempt:
            await _heeding_cancellation(serving.serve())


class _Serving:
    """Connections one after the other, and what the ones before say about the next one."""

    def __init__(
        self,
        url: str,
        name: str,
        serve: Callable[[Connection], Awaitable[None]],
        on_loss: Callable[[BrokerUnavailable], None],
    ) -> None:
        self._url = url
        self._name = name
        self._serve = serve
        self._on_loss = on_loss
        self._lost: Address | None = None
        self._was_in_service = False
        self._failures = 0
        """In a row, since a connection was last in service."""
        self._refusals = 0

    async def serve(self) -> None:
        async with connect(self._url, self._name, lost=self._lost) as connection:
            self._lost = connection.address
            log.info("broker connected: %s:%d", connection.address.ip, connection.address.port)
            try:
                await self._serve(connection)
            finally:
                if connection.in_service:
                    self._was_in_service, self._failures = True, 0

    def is_tried_again(self, error: BaseException) -> bool:
        """Takes note of how a connection ended."""
        if not is_broker_loss(error):
            return False
        self._failures += 1
        refusal = refusal_in(error)
        self._refusals = self._refusals + 1 if refusal else 0
        if refusal is None:
            log.warning("broker away: %s", error)
        else:
            log.error("the broker refuses: %s", refusal)
        self._on_loss(refusal or BrokerUnavailable("not connected"))
        return self._was_in_service or self._refusals < REFUSALS_AT_START

    def wait_seconds(self, _: RetryCallState) -> float:
        if self._refusals and not self._was_in_service:
            return REFUSED_WAIT_SECONDS
        return uniform(0, min(MAX_RECONNECT_WAIT_SECONDS, 0.1 * 2 ** min(self._failures, 10)))


async def _heeding_cancellation(work: Coroutine[None, None, None]) -> None:
    """Awaits `work`. Told to end meanwhile, it raises that, whatever error `work` ends with.

    The driver answers a cancellation with an error of its own while it connects, and in a task group
    the error of a member goes before it. `gather` remembers; `Task.cancelling` cannot tell, since a
    task group of Python 3.11 that has fallen may leave it raised.
    """
    (outcome,) = await asyncio.gather(work, return_exceptions=True)
    if isinstance(outcome, BaseException):
        raise outcome
