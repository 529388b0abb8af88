"""An order-state on one partition without a broker: it decides what a test gives it, and does for a sweep
what the worker of a process does.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from tracking_order_state.adapters.store import Store
from tracking_order_state.domain.order_cache import OrderCache
from tracking_order_state.errors import Fault, fault_of
from tracking_order_state.processing.batch_processor import BatchProcessor
from tracking_order_state.processing.stages import (
    PartitionBatch,
    PartitionResult,
    PartitionState,
    ReceivedBatch,
)
from tracking_order_state.processing.worker import PartitionConsumer, Worker
from tracking_shared.contracts.commands import AnyCommand, Outcome
from tracking_shared.contracts.layout import Layout
from tracking_shared.contracts.timestamps import now
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW, Workflow
from tracking_shared.storage.database import Database


async def _nothing() -> None:
    """The deliveries are ours."""


class Owner:
    """The owner of partition 0 from its first batch or claim on, with a wrong clock if asked for."""

    batches = 0
    # `Any`: their `self` need not be a whole worker.
    paced: Any = Worker.paced

    def __init__(
        self,
        database: Database,
        *,
        store: Store | None = None,
        workflow: Workflow = DEFAULT_WORKFLOW,
        clock_ahead: timedelta = timedelta(),
        cache_bytes: int = 10**6,
    ) -> None:
        self.clock_ahead = clock_ahead
        self.store = store or Store(database)
        self.processor = BatchProcessor(
            self.store,
            None,  # type: ignore[arg-type]
            workflow,
            Layout((1,)),
            10,
            clock=lambda: now() + self.clock_ahead,
            cache=OrderCache(cache_bytes),
        )
        self.consumer: Any = PartitionConsumer(PartitionState(0, _nothing), None)  # type: ignore[arg-type]

    @property
    def partition(self) -> PartitionState:
        """What it knows of its partition."""
        state: PartitionState = self.consumer.partition
        return state

    async def outcomes(self, *commands: AnyCommand) -> list[Outcome]:
        """Decides commands as one batch."""
        self.partition.begin_batch()
        committed = await self.processor.commit(
            ReceivedBatch([PartitionBatch(self.partition, commands=commands)])
        )
        return [one for one in committed.results[0].outcomes if one is not None]

    async def decide(self, *commands: AnyCommand) -> list[tuple[str | None, int | None]]:
        """Problem and version of each."""
        found = await self.outcomes(*commands)
        return [(one["problem"] and one["problem"]["slug"], one["version"]) for one in found]

    def owned(self) -> list[PartitionConsumer]:
        """Its partition, once it has claimed that."""
        return [self.consumer] if self.partition.position else []

    async def between_batches(
        self,
        _: PartitionConsumer,
        step: Callable[[], Awaitable[PartitionResult]],
        known: Fault | None = None,
    ) -> PartitionResult | Fault:
        """There are no batches of callers, and nobody to publish to."""
        return await fault_of(step(), known)
