"""Carries out a change of the number of partitions that an operator has asked for.

Every replica does, step by step, and each step compares what it follows: so any of them carries on where
another one was killed.

1. The queues of the new partitions are declared, and all queues are bound under the next routing keys, which
   nobody uses yet. It waits until the queues are short: updates are taken as before.
2. `fenced` is noted, and the current routing keys are unbound. Ingest answers 503. For a moment, what was
   routed before may still come to the queues.
3. Behind everything that was taken, each queue gets a request that is answered when it is decided. If the
   answers are not in time, ingest goes on with the layout before, and it begins anew after a while.
4. When all are answered, `decided` is noted. The workers, who know the layout before, are fenced, the new
   partitions are created, and the homes of orders that may not exist yet are noted.
5. The new layout becomes the current one. Ingest goes on under the next routing keys.
"""

import asyncio
import logging
from secrets import token_hex

from tracking_order_state.adapters.repartition_store import RepartitionStore
from tracking_order_state.errors import LayoutChanged
from tracking_order_state.processing.partition_watch import claim_requests
from tracking_shared.contracts.commands import COMMANDS_MEDIA_TYPE, decode_replies
from tracking_shared.contracts.formats import COMMANDS, message_headers
from tracking_shared.contracts.layout import SETTLE_SECONDS, Layout, Routing, Switch
from tracking_shared.messaging.connection import Connection
from tracking_shared.messaging.consumer import Consumer
from tracking_shared.messaging.errors import BrokerBlocked, BrokerUnavailable, PublishRefused
from tracking_shared.messaging.publisher import Publisher
from tracking_shared.messaging.topology import partition_queue_name
from tracking_shared.storage.database import DatabaseUnavailable

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""The interval at which the settings are read."""

SHORT_SECONDS = 1.0
"""Queues are short if a request is answered in this time."""

LONG_QUEUES_SECONDS = 5.0
"""After queues were found long, the pause before the next look at them, which sends requests to each."""

FENCED_SECONDS = 2.5
"""The longest wait for what was taken to be decided, while ingest takes nothing."""

AGAIN_SECONDS = 15.0
"""After an attempt that was not in time, updates are taken for so long before the next one."""

ROUNDS = 2
"""Requests to each queue, one after the other: a worker may have sent something on to a queue that was
answered for already. What was sent on once is never sent on again."""


class Repartition:
    """Watches the layout over one connection, and carries out changes of it."""

    def __init__(
        self,
        store: RepartitionStore,
        connection: Connection,
        routing: Routing,
        *,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._store = store
        self._connection = connection
        self._settle_seconds = settle_seconds
        self._layout = routing.layout
        self._requests = claim_requests(routing.layout)
        self._publisher: Publisher | None = None
        self._seen = Switch(0, "open", 0)
        self._due_at = 0.0

    async def run(self) -> None:
        """Watches until cancelled.

        Raises:
            LayoutChanged: there is a new layout.
            BrokerUnavailable: the connection is gone.
        """
        while True:
            try:
                await self._look()
            except DatabaseUnavailable as error:
                log.debug("the layout of the partitions cannot be read: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def finish(self) -> None:
        """Finishes a change behind everything that was taken: until then no worker can claim a partition.

        Raises:
            LayoutChanged: there is a new layout.
            DatabaseUnavailable: no answer.
        """
        _, switch = await self._store.read()
        if switch is not None and switch.phase == "decided":
            await self._look()

    async def _look(self) -> None:
        """Carries out the steps that are next, until it has to wait or another process carries on."""
        has_advanced = True
        while has_advanced:
            routing, switch = await self._store.read()
            if routing.layout != self._layout:
                raise LayoutChanged("the number of partitions was changed")
            has_advanced = switch is not None and await self._advance(routing, switch)

    async def _advance(self, routing: Routing, switch: Switch) -> bool:
        if switch.phase == "open":
            return self._is_due(switch) and await self._prepare(routing, switch)
        if switch.phase == "fenced":
            return await self._drain(routing, switch)
        return await self._activate(routing, switch)

    def _is_due(self, switch: Switch) -> bool:
        """False for a while after an attempt that was not in time, or while the queues were long."""
        now = asyncio.get_running_loop().time()
        if switch != self._seen:
            self._seen, self._due_at = switch, now + (AGAIN_SECONDS if switch.attempt else 0)
        return now >= self._due_at

    async def _prepare(self, routing: Routing, switch: Switch) -> bool:
        new = routing.layout.with_generation(switch.count)
        await self._connection.declare(new.partitions, routing.route + 1)
        if not await self._is_decided(SHORT_SECONDS):
            log.warning("the number of partitions is to be changed, but the queues are long: it waits")
            self._due_at = asyncio.get_running_loop().time() + LONG_QUEUES_SECONDS
            return False
        return await self._store.fence(switch)

    async def _drain(self, routing: Routing, switch: Switch) -> bool:
        await self._connection.unbind(routing.layout.partitions, routing.route)
        await asyncio.sleep(self._settle_seconds)
        if await self._is_decided(FENCED_SECONDS):
            return await self._store.note_decided(switch)
        if await self._store.give_up(switch, routing):
            log.warning(
                "what was taken is not decided in %.1f s; it is tried again in %.0f s",
                FENCED_SECONDS,
                AGAIN_SECONDS,
            )
        return False

    async def _activate(self, routing: Routing, switch: Switch) -> bool:
        new: Layout = routing.layout.with_generation(switch.count)
        await self._store.prepare_partitions(new)
        # Now: what a worker of the layout before has held or parked is all there.
        await self._store.keep_homes()
        if await self._store.activate(switch, routing):
            log.info("%d partitions for new orders, %d in all", switch.count, new.partitions)
        return True

    async def _is_decided(self, seconds: float) -> bool:
        """True if everything that the queues hold now is decided within `seconds`."""
        reply_to, replies = await self._connection.private_consumer(None, limit=10 * len(self._requests))
        try:
            async with asyncio.timeout(seconds):
                for _ in range(ROUNDS):
                    await _await_answers(replies, await self._request(reply_to))
        except (TimeoutError, PublishRefused, BrokerBlocked):
            return False
        finally:
            await replies.close()
        return True

    async def _request(self, reply_to: str) -> set[str]:
        """Sends a request to each queue. Returns the ids of the messages."""
        if self._publisher is None:
            self._publisher = await self._connection.publisher("")
        ids = [token_hex(8) for _ in self._requests]
        for partition, body in enumerate(self._requests):
            await self._publisher.publish(
                partition_queue_name(partition),
                body,
                content_type=COMMANDS_MEDIA_TYPE,
                message_id=ids[partition],
                reply_to=reply_to,
                headers=message_headers(COMMANDS),
            )
        return set(ids)


async def _await_answers(replies: Consumer, ids: set[str]) -> None:
    """Waits until each of these messages is answered. A worker that is replaced may answer one twice."""
    missing = set(ids)
    while missing:
        deliveries = await replies.next_batch(50)
        if not deliveries:
            raise BrokerUnavailable("the connection was lost")
        for one in deliveries:
            missing -= {reply["message_id"] for reply in decode_replies(one.body, one.headers)}
        await deliveries[-1].acknowledge_through()
