"""Tries the steps of batches again while the database does not answer."""

from collections.abc import Awaitable, Callable, Sequence
from typing import ParamSpec, TypeVar

from tracking_order_state.adapters.store import Store
from tracking_order_state.errors import Fault, PartitionStalled, fault_of
from tracking_order_state.processing.stages import PartitionState
from tracking_shared.storage.database import DatabaseUnavailable, retrying_database

P = ParamSpec("P")
T = TypeVar("T")

MAX_FAILURES = 3
"""Attempts that may fail although the database answers, before each partition is tried alone. An election or
a write conflict passes within one or two."""


class Retries:
    """Runs steps that use the store, and notes at their partitions that they are retried."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def tried(
        self,
        partitions: Sequence[PartitionState],
        step: Callable[P, Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T | Fault:
        """Runs `step` as `retried` does, and returns its result or its fault."""
        return await fault_of(self.retried(partitions, step, *args, **kwargs))

    async def retried(
        self,
        partitions: Sequence[PartitionState],
        step: Callable[P, Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Runs `step` until the database answers, and returns its result. From the second attempt on, known
        updates may be those of an earlier attempt, committed though the answer was lost.

        Retried in process: a delivery that is given back and taken again would count towards the delivery
        limit, and an hour's outage would dead-letter it.

        Raises:
            PartitionStalled: `MAX_FAILURES` attempts have failed although the database answers.
        """
        async for attempt in retrying_database():
            with attempt:
                for partition in partitions:
                    partition.is_retried |= attempt.retry_state.attempt_number > 1
                try:
                    return await step(*args, **kwargs)
                except DatabaseUnavailable as error:
                    await self._count_failure(partitions, error)
                    raise
        raise AssertionError("retried without end")

    async def _count_failure(self, partitions: Sequence[PartitionState], error: DatabaseUnavailable) -> None:
        if not await self._store.answers():
            return
        for partition in partitions:
            partition.failures += 1
        if any(partition.failures >= MAX_FAILURES for partition in partitions):
            raise stalled(partitions, error) from error


def stalled(partitions: Sequence[PartitionState], reason: object) -> PartitionStalled:
    """The error for partitions that cannot go on."""
    return PartitionStalled(f"partitions {[partition.number for partition in partitions]}: {reason}")
