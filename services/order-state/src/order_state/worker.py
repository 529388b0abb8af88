"""A worker: gathers what has arrived on its partitions into passes, one after the other."""

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter

from order_state import metrics
from order_state.passes import Passes, Share
from order_state.store import Fenced, PartitionPosition
from shared.broker import BrokerUnavailable, Consumer

log = logging.getLogger(__name__)

PASS_BYTES = 256 * 1024
"""Commands in one pass, give or take a message: about 900 of the usual size. Larger transactions gain
little (80 µs a command at 400, 110 µs at 100) and delay everyone behind them."""


STOP_SECONDS = 5
"""How long a pass in work may take to end when the process is told to stop."""


@dataclass(slots=True, eq=False)
class Subscription:
    """A partition that this process has queued for, and may be the active one of."""

    partition: int
    consumer: Consumer
    position: PartitionPosition | None = None


@dataclass(slots=True, eq=False)
class _Waiting:
    subscription: Subscription
    handled: asyncio.Future[None]


@dataclass(slots=True, eq=False)
class Worker:
    """Runs passes while subscriptions ask for them. First come, first served."""

    passes: Passes
    _queue: deque[_Waiting] = field(default_factory=deque)
    _asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, subscription: Subscription) -> None:
        """Returns when what has arrived on the subscription (or as much as fits a pass) is acknowledged.

        Raises:
            Fenced: another worker owns the partition; give the subscription up.
            BrokerUnavailable: the connection is gone.
        """
        waiting = _Waiting(subscription, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._asked.set()
        await waiting.handled

    async def run(self) -> None:
        """Runs passes until cancelled, or the connection is gone."""
        while True:
            await self._asked.wait()
            started = perf_counter()
            await _finish(self._pass(self._take()))
            metrics.PASS_SECONDS.observe(perf_counter() - started)
            if not self._queue:
                self._asked.clear()

    def _take(self) -> list[tuple[_Waiting, Share]]:
        taken = []
        room = PASS_BYTES
        while self._queue and room > 0:
            waiting = self._queue.popleft()
            subscription = waiting.subscription
            deliveries = subscription.consumer.take_bytes(room)
            room -= sum(len(delivery.body) for delivery in deliveries)
            taken.append(
                (
                    waiting,
                    Share(
                        subscription.partition, subscription.position, deliveries, subscription.consumer.check
                    ),
                )
            )
        return taken

    async def _pass(self, taken: list[tuple[_Waiting, Share]]) -> None:
        try:
            await self.passes.run([share for _, share in taken])
        except Fenced as error:
            if len(taken) == 1:
                metrics.FENCED.inc()
                log.warning("gave up partition %d: %s", taken[0][1].partition, error)
                _settle(taken[0][0].handled, error)
                return
            for one in taken:  # nothing was written; alone, each learns whether it is the one
                await self._pass([one])
        except BrokerUnavailable as error:
            for waiting, _ in taken:
                _settle(waiting.handled, error)
            raise
        else:
            for waiting, share in taken:
                waiting.subscription.position = share.position
                _settle(waiting.handled, None)


def _settle(handled: asyncio.Future[None], error: Exception | None) -> None:
    if handled.done():
        return
    if error is None:
        handled.set_result(None)
    else:
        handled.set_exception(error)


async def _finish(handling: Coroutine[None, None, None]) -> None:
    """Runs a pass to its end even when the process is told to stop meanwhile: a pass cut off in
    the middle would be safe, but would have to be found out by whoever takes over.
    """
    task = asyncio.ensure_future(handling)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(TimeoutError):
            await asyncio.wait_for(task, STOP_SECONDS)
        raise
