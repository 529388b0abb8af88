"""One connection to the broker: exchanges and queues, publishers, consumers.

Connections are plain, not self-restoring ones: the service decides what follows a loss (forget the
deliveries, read the position again, fill a gap), so it runs `serve_connections` with a function that lives
exactly as long as one connection.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

import aio_pika
import aiormq.exceptions
from aio_pika.abc import AbstractChannel, AbstractConnection

from tracking_shared.contracts.formats import Format
from tracking_shared.messaging.consumer import Consumer, Delivery, delivery_of
from tracking_shared.messaging.errors import (
    AccessRefused,
    BrokerBlocked,
    BrokerRefused,
    BrokerUnavailable,
    NotDeclared,
    bounded,
    is_broker_loss,
)
from tracking_shared.messaging.opening import Address, NotResolved, addresses, close_quietly, open_address
from tracking_shared.messaging.publisher import ALARM, Publisher
from tracking_shared.messaging.topology import (
    COMMANDS_EXCHANGE,
    DEAD_EXCHANGE,
    DEAD_QUEUE,
    EVENTS_EXCHANGE,
    Queue,
    as_it_exists,
    dead_queue,
    differences,
    partition_queue,
    routing_key,
)

log = logging.getLogger(__name__)

T = TypeVar("T")


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

    async def declare(self, partitions: int, route: int = 0) -> None:
        """Declares every exchange and queue. Idempotent. A queue that exists keeps its bounds, whatever this
        release declares.

        Raises:
            BrokerRefused: the user may not, or an exchange or the queue of a partition exists without one of
                the guarantees.
            BrokerUnavailable: the connection is gone.
        """
        async with bounded("declare the exchanges"):
            await self._declare_dead_queue()
            channel = await self._connection.channel()
            await channel.declare_exchange(COMMANDS_EXCHANGE, aio_pika.ExchangeType.DIRECT, durable=True)
            await channel.declare_exchange(EVENTS_EXCHANGE, aio_pika.ExchangeType.FANOUT, durable=True)
        for partition in range(partitions):
            queue = partition_queue(partition, route)
            async with bounded(f"declare {queue.name}"):  # each alone: a new cluster takes its time for some
                channel = await self._declare_or_adopt(channel, queue)
        async with bounded("close channel"):
            await channel.close()

    async def unbind(self, partitions: int, route: int) -> None:
        """Removes the bindings of a route: nothing that is published under it is taken any more.

        Raises:
            BrokerUnavailable: the connection is gone.
        """
        channel = await self._connection.channel()
        for partition in range(partitions):
            async with bounded(f"unbind partition {partition}"):
                queue = await channel.get_queue(partition_queue(partition).name, ensure=False)
                await queue.unbind(COMMANDS_EXCHANGE, routing_key(partition, route))
        async with bounded("close channel"):
            await channel.close()

    async def _declare_or_adopt(self, channel: AbstractChannel, queue: Queue) -> AbstractChannel:
        """Declares a queue with the arguments that it has, if it exists and differs only where it may.
        Returns an open channel: the broker closes one on which it refuses a declaration.
        """
        existing = queue
        while True:
            try:
                await _declare_queue(channel, existing)
            except aiormq.exceptions.ChannelPreconditionFailed as error:
                # The broker names one argument at a time.
                found = as_it_exists(existing, str(error))
                if found is None or found == existing:
                    raise
                existing = found
                channel = await self._connection.channel()
            else:
                if existing != queue:
                    log.info("%s stays as it is: %s", queue.name, differences(queue, existing))
                return channel

    async def _declare_dead_queue(self) -> None:
        channel = await self._connection.channel()
        await channel.declare_exchange(DEAD_EXCHANGE, aio_pika.ExchangeType.FANOUT, durable=True)
        try:
            await _declare_queue(channel, dead_queue())
        except aiormq.exceptions.ChannelPreconditionFailed:  # the broker has closed the channel
            log.info("%s has the arguments of an earlier version; it stays as it is", DEAD_QUEUE)
        else:
            await channel.close()

    async def with_declared(self, partitions: int, use: Callable[[], Awaitable[T]], *, route: int = 0) -> T:
        """Returns what `use` returns, once what it uses is there: what is missing is declared by those who
        may. It is used, not asked for: who uses exchanges and queues has no right to configure them, and
        RabbitMQ 4.2.6 and 4.3.0 refuse the question (a passive declaration) to all others, later ones to
        those without any right on the resource.

        Raises:
            NotDeclared: it is missing, and this user may not declare it.
            BrokerUnavailable: as `use` and `declare`.
        """
        try:
            return await use()
        except NotDeclared as missing:
            try:
                await self.declare(partitions, route)
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
        async with bounded("open channel"):
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

    async def consumer(self, queue_name: str, *, prefetch: int, form: Format | None = None) -> Consumer:
        """A consumer with acknowledgements on a channel of its own. `form`: what its messages are.

        Raises:
            NotDeclared: there is no such queue.
            BrokerUnavailable: the connection is gone.
        """
        async with bounded(f"consume {queue_name}"):
            channel = await self._connection.channel(publisher_confirms=False)
            await channel.set_qos(prefetch_count=prefetch)
            consumer = Consumer(channel, prefetch, form)
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
        async with bounded("private queue"):
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
        """The number of messages that are ready in a queue (those that a consumer has are not).

        Raises:
            AccessRefused: from RabbitMQ 4.2.6 on, only users with some right on the queue may know it.
            NotDeclared: there is no such queue.
            BrokerUnavailable: the connection is gone.
        """
        async with bounded(f"depth of {queue_name}"):
            channel = await self._connection.channel()
            queue = await channel.declare_queue(queue_name, passive=True)
            await channel.close()
        return queue.declaration_result.message_count or 0

    async def browse(self, queue_name: str, limit: int) -> tuple[int, list[Delivery]]:
        """The number of messages that are ready in a queue, and the first `limit` of them, one at least. They
        go back when the connection is closed. It takes the right to read the queue and no other.

        Raises:
            NotDeclared: there is no such queue.
            BrokerUnavailable: the connection is gone.
        """
        async with bounded(f"browse {queue_name}"):
            channel = await self._connection.channel(publisher_confirms=False)
            self._channels.append(channel)
            queue = await channel.get_queue(queue_name, ensure=False)
            ready = 0
            found: list[Delivery] = []
            while len(found) < max(limit, 1) and (message := await queue.get(fail=False)) is not None:
                found.append(delivery_of(message))
                ready = len(found) + (message.message_count or 0)
        return ready, found

    @property
    def is_blocked(self) -> bool:
        """True if the broker has said that it takes no messages from here, because of an alarm.

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

    async def close(self, *, is_lost: bool = False) -> None:
        """Closes it, whatever state it is in; at once, if it is lost."""
        await close_quietly(self._connection, is_lost=is_lost)


PRIVATE_PREFETCH = 100


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
    except BaseException as error:
        await connection.close(is_lost=is_broker_loss(error))
        raise
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
