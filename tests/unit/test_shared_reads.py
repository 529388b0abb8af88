"""Concurrent reads of one key are one read."""

import asyncio

import pytest

from tracking_shared.storage.shared_reads import SharedReads


class Source:
    """Counts the reads, each of which waits until it is let go."""

    def __init__(self) -> None:
        self.reads = 0
        self.let_go = asyncio.Event()
        self.error: Exception | None = None

    async def fetch(self) -> int:
        self.reads += 1
        number = self.reads
        await self.let_go.wait()
        if self.error:
            raise self.error
        return number


async def begun(*tasks: "asyncio.Task[int]") -> None:
    """Lets each task begin to wait."""
    for _ in tasks:
        await asyncio.sleep(0)


async def test_those_who_ask_meanwhile_get_the_same_and_the_next_a_new_one() -> None:
    shared, source = SharedReads[str, int](), Source()
    tasks = [asyncio.create_task(shared.read("a", source.fetch)) for _ in range(3)]
    other = asyncio.create_task(shared.read("b", source.fetch))
    await begun(*tasks, other)
    source.let_go.set()
    assert await asyncio.gather(*tasks) == [1, 1, 1]
    assert await other == 2
    assert await shared.read("a", source.fetch) == 3


async def test_who_must_miss_nothing_from_before_shares_only_a_read_that_begins_later() -> None:
    shared, source = SharedReads[str, int](), Source()
    first = asyncio.create_task(shared.read_anew("a", source.fetch))
    await begun(first)
    later = [asyncio.create_task(shared.read_anew("a", source.fetch)) for _ in range(3)]
    await begun(*later)
    assert source.reads == 1
    source.let_go.set()
    assert await first == 1
    assert await asyncio.gather(*later) == [2, 2, 2]


async def test_an_error_of_the_read_before_is_none_of_the_next_one() -> None:
    shared, source = SharedReads[str, int](), Source()

    async def fail() -> int:
        await source.let_go.wait()
        raise OSError("away")

    first = asyncio.create_task(shared.read_anew("a", fail))
    await begun(first)
    later = asyncio.create_task(shared.read_anew("a", source.fetch))
    await begun(later)
    source.let_go.set()
    with pytest.raises(OSError, match="away"):
        await first
    assert await later == 1


async def test_one_that_leaves_ends_the_read_of_no_other() -> None:
    shared, source = SharedReads[str, int](), Source()
    first, second = [asyncio.create_task(shared.read("a", source.fetch)) for _ in range(2)]
    await begun(first, second)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.let_go.set()
    assert await second == 1


async def test_an_error_goes_to_all_who_wait_and_to_nobody_after() -> None:
    shared, source = SharedReads[str, int](), Source()
    tasks = [asyncio.create_task(shared.read("a", source.fetch)) for _ in range(2)]
    await begun(*tasks)
    source.error = OSError("away")
    source.let_go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(error) for error in found] == ["away", "away"]
    source.error = None
    assert await shared.read("a", source.fetch) == 2
