"""The worker of a process: gathers what has arrived on its partitions into passes, one after the other."""

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

from order_state import metrics
from order_state.faults import CannotGoOn, Fenced
from order_state.passes import Passes, Recorded
from order_state.share import Share
from order_state.store import PartitionPosition
from shared.broker import BrokerUnavailable, Consumer

log = logging.getLogger(__name__)

PASS_BYTES = 256 * 1024
"""Commands in one pass, give or take a message: about 900 of the usual size. Larger transactions gain
little (80 µs a command at 400, 110 µs at 100) and delay everyone behind them."""

FIRST_STALL_SECONDS = 1.0
MAX_STALL_SECONDS = 30.0
"""How long a partition rests that cannot go on before it is tried again: twice as long each time, up to this.
An attempt may keep the others waiting for as long as a call of the database takes, 8 s. Its deliveries stay
in hand: given back, they would come closer to the delivery limit each time."""

STOP_SECONDS = 5
"""How long the passes in work may take to end when the process is told to stop."""


@dataclass(slots=True, eq=False)
class Subscription:
    """A partition that this process has queued for, and may be the active one of."""

    partition: int
    consumer: Consumer
    position: PartitionPosition | None = None
    held: Share | None = None
    """Taken, and to be tried again before anything else."""
    _passes: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, limit: int) -> Share:
        """What is held, or else what has arrived, about `limit` bytes of it, for a pass."""
        self._passes += 1
        held, self.held = self.held, None
        if held is not None:
            return held
        return Share(self.partition, self.position, self.consumer.take_bytes(limit), self.consumer.check)

    async def settle(self) -> None:
        """Returns when no pass has deliveries of this subscription in hand: only then may the channel
        close, or what was recorded could not be acknowledged. Waits `STOP_SECONDS` at most.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                while self._passes:
                    self._idle.clear()
                    await self._idle.wait()

    def leave_pass(self) -> None:
        """The pass is through with them, however it ended."""
        self._passes -= 1
        self._idle.set()


@dataclass(slots=True, eq=False)
class _Waiting:
    """A batch in hand, from when something arrived until it is acknowledged."""

    subscription: Subscription
    begun: float = field(default_factory=monotonic)
    recorded: asyncio.Future[None] = field(init=False)
    """Of its newest pass."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """One partition's part of a pass, and who waits for it."""

    waiting: _Waiting
    share: Share


@dataclass(slots=True, eq=False)
class Worker:
    """Runs passes while subscriptions ask for them. First come, first served.

    While the second half of a pass (announce, reply, acknowledge) waits for the broker, the first
    half of the next one (load, decide, commit) waits for the database. Second halves follow one
    another, so that events are announced in the order of their commits.
    """

    passes: Passes
    _queue: deque[_Waiting] = field(default_factory=deque)
    _asked: asyncio.Event = field(default_factory=asyncio.Event)
    _telling: asyncio.Task[None] | None = None
    _in_hand: set[_Waiting] = field(default_factory=set)
    _stalled: set[Subscription] = field(default_factory=set)

    async def handle(self, subscription: Subscription) -> None:
        """Returns when what has arrived on the subscription (or as much as fits a pass) is recorded.

        Raises:
            Fenced: another worker owns the partition; give the subscription up.
            BrokerUnavailable: the connection is gone.
        """
        waiting = _Waiting(subscription)
        self._in_hand.add(waiting)
        is_recorded = False
        try:
            is_recorded = await self._handle(waiting)
        finally:
            self._stalled.discard(subscription)
            if not is_recorded:
                self._in_hand.discard(waiting)

    async def _handle(self, waiting: _Waiting) -> bool:
        """Whether it was recorded; else the subscription has ended while its partition was stalled."""
        subscription = waiting.subscription
        rest_seconds = FIRST_STALL_SECONDS
        while True:
            try:
                await self._claim(subscription)
                await self._join_pass(waiting)
            except CannotGoOn as error:
                self._stalled.add(subscription)
                log.error(  # noqa: TRY400 - no bug
                    "partition %d is stalled, next attempt in %.0f s: %s",
                    subscription.partition,
                    rest_seconds,
                    error,
                )
                await asyncio.sleep(rest_seconds)
                rest_seconds = min(2 * rest_seconds, MAX_STALL_SECONDS)
            else:
                return True
            if subscription.consumer.is_closed:
                return False

    async def _claim(self, subscription: Subscription) -> None:
        # Not within a pass: a claim may be held up, and would hold up the other partitions of the pass.
        if subscription.position is None:
            share = Share(subscription.partition, None, [], subscription.consumer.check)
            await self.passes.claim(share)
            subscription.position = share.position

    async def _join_pass(self, waiting: _Waiting) -> None:
        waiting.recorded = asyncio.get_running_loop().create_future()
        self._queue.append(waiting)
        self._asked.set()
        await waiting.recorded

    def oldest_batch_seconds(self) -> float:
        """The age of the oldest batch in hand; 0: there is none."""
        return max((monotonic() - waiting.begun for waiting in self._in_hand), default=0.0)

    async def run(self) -> None:
        """Runs passes until cancelled; what is in work then is brought to its end.

        Raises:
            BrokerUnavailable: the connection is gone.
        """
        metrics.STALLED_PARTITIONS.set_function(lambda: len(self._stalled))
        metrics.OLDEST_BATCH_SECONDS.set_function(self.oldest_batch_seconds)
        try:
            while True:
                await self._asked.wait()
                self._asked.clear()
                if self._telling is not None and self._telling.done():
                    self._telling.result()  # raises what went wrong
                while self._queue:
                    await _finish(self._pass(self._take()))
        finally:
            if self._telling is not None:
                await asyncio.wait({self._telling}, timeout=STOP_SECONDS)
            self._in_hand.clear()  # whatever is left comes again, to whomever

    def _take(self) -> list[_Taken]:
        taken: list[_Taken] = []
        room = PASS_BYTES
        while self._queue and room > 0:
            is_held = self._queue[0].subscription.held is not None
            if is_held and taken:
                break
            waiting = self._queue.popleft()
            share = waiting.subscription.take(room)
            room -= sum(len(delivery.body) for delivery in share.deliveries)
            taken.append(_Taken(waiting, share))
            if is_held:  # alone: it has failed before, and would have the others tried twice
                break
        return taken

    async def _pass(self, taken: list[_Taken]) -> None:
        try:
            recorded = await self.passes.record([one.share for one in taken])
            if self._telling is not None:
                await self._telling
        except (Fenced, CannotGoOn) as error:
            if len(taken) > 1:
                for one in taken:  # alone, each learns whether it is the one
                    one.share.again = True  # this pass may have written its part
                    await self._pass([one])
                return
            _give_up(taken[0], error)
        except BrokerUnavailable as error:
            _settle(taken, error)
            raise
        else:
            self._tell_next(taken, recorded)

    def _tell_next(self, taken: list[_Taken], recorded: Recorded) -> None:
        self._telling = asyncio.create_task(self._tell(taken, recorded))
        self._telling.add_done_callback(lambda _: self._asked.set())
        for one in taken:
            one.waiting.subscription.position = one.share.position
            if not one.waiting.recorded.done():
                one.waiting.recorded.set_result(None)

    async def _tell(self, taken: list[_Taken], recorded: Recorded) -> None:
        try:
            await self.passes.tell(recorded)
        finally:
            for one in taken:
                one.waiting.subscription.leave_pass()
                self._in_hand.discard(one.waiting)


def _give_up(taken: _Taken, error: Fenced | CannotGoOn) -> None:
    if isinstance(error, CannotGoOn):
        taken.waiting.subscription.held = taken.share
    else:
        metrics.FENCED.inc()
        log.warning("gave up partition %d: %s", taken.share.partition, error)
    _settle([taken], error)


def _settle(taken: list[_Taken], error: Exception) -> None:
    for one in taken:
        one.waiting.subscription.leave_pass()
        if not one.waiting.recorded.done():
            one.waiting.recorded.set_exception(error)


async def _finish(work: Coroutine[None, None, None]) -> None:
    """Brings a pass to its end even when the process is told to stop meanwhile: a pass cut off in
    the middle would be safe, but would have to be found out by whoever takes over.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=STOP_SECONDS)
        raise
