"""The sweep of archiving carries out requests in short steps."""

import asyncio
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any, cast

import pytest
from virtual_time import simulate

from tracking_order_state.domain.archiving import ArchiveRequest
from tracking_order_state.errors import Fault
from tracking_order_state.processing import archive_sweep
from tracking_order_state.processing.archive_sweep import ArchiveSweep
from tracking_order_state.processing.stages import PartitionResult
from tracking_order_state.processing.worker import Worker


class World:
    """A worker with one partition, and what it was asked to archive."""

    def __init__(self, *requests: ArchiveRequest) -> None:
        self.requests = list(requests)
        self.archived: list[str] = []
        self.steps: list[int] = []
        self.seconds_of_order = 0.0
        self.batches = 0
        self.lost_after: int | None = None
        """The number of steps after which the worker does not own the partition any more."""
        self.processor = SimpleNamespace(steps=self)

    def owned(self) -> list[Any]:
        return [SimpleNamespace(partition=SimpleNamespace(number=0))]

    async def pending(self, partitions: Collection[int], /) -> list[ArchiveRequest]:
        return list(self.requests)

    async def between_batches(self, _: Any, step: Any) -> Any:
        return None if len(self.steps) == self.lost_after else await step()

    async def archive(self, _: Any, request: ArchiveRequest) -> PartitionResult | Fault:
        if request.id == "bad":
            return Fault("bad")
        await asyncio.sleep(len(request.orders) * self.seconds_of_order)
        self.steps.append(len(request.orders))
        self.archived += request.order_ids
        if request.is_last:
            self.requests = [one for one in self.requests if one.id != request.id]
        return PartitionResult()


def request(name: str, orders: int) -> ArchiveRequest:
    asked: Any = [{"order_id": f"{name}-{n}", "version": 1, "seq": n} for n in range(orders)]
    return ArchiveRequest(name, "part", 0, asked)


def sweep_of(world: World) -> ArchiveSweep:
    return ArchiveSweep(cast(Worker, world), world)


def test_a_request_that_fails_holds_up_no_other() -> None:
    async def simulation() -> None:
        world = World(request("bad", 1), request("good", 1))
        with pytest.raises(archive_sweep._Failed):
            await sweep_of(world).look()
        assert world.archived == ["good-0"]

    simulate(simulation())


@pytest.mark.parametrize(
    ("seconds", "steps"),
    [(0.01, [25] * 8), (0.0002, [25, 50, 25, 50, 50]), (0.0001, [25, 50, 25, 100])],
    ids=["slow", "medium", "quick"],
)
def test_a_request_is_carried_out_in_steps_that_do_not_last_long_and_each_order_once(
    seconds: float, steps: list[int]
) -> None:
    async def simulation() -> None:
        world = World(request("a", 100), request("b", 100))
        world.seconds_of_order = seconds
        assert await sweep_of(world).look() == 2
        assert world.archived == [f"{name}-{n}" for name in "ab" for n in range(100)]
        assert world.steps == steps

    simulate(simulation())


def test_a_request_stays_open_when_the_partition_is_lost_in_the_middle_of_it() -> None:
    async def simulation() -> None:
        world = World(request("a", 100))
        world.lost_after = 2
        await sweep_of(world).look()
        assert (len(world.steps), len(world.requests)) == (2, 1)

    simulate(simulation())


@pytest.mark.parametrize(("batches", "seconds"), [(0, 0.1), (1, 0.4)], ids=["alone", "beside callers"])
def test_it_pauses_between_steps_while_callers_send(batches: int, seconds: float) -> None:
    async def simulation() -> None:
        world = World(request("a", 100))
        world.seconds_of_order = 0.001
        clock = asyncio.get_running_loop().time
        between = world.between_batches

        async def between_batches(consumer: Any, step: Any) -> Any:
            world.batches += batches
            return await between(consumer, step)

        world.between_batches = between_batches  # type: ignore[method-assign]
        started = clock()
        await sweep_of(world).look()
        assert clock() - started == pytest.approx(seconds)

    simulate(simulation())
