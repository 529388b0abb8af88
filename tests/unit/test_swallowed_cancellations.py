"""A task that is cancelled while it uses the database ends, also if the driver swallows the cancellation."""

import asyncio

import pytest
from pymongo.errors import AutoReconnect

from tracking_shared.storage.database import DatabaseUnavailable, driver_errors


async def cancelled_at_the_answer(error: Exception | None = None) -> asyncio.Task[str]:
    """A task that has waited for an answer as the driver does, and was cancelled when the answer came."""
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waits = asyncio.Event()

    async def use() -> str:
        with driver_errors():
            waits.set()
            await asyncio.wait_for(answer, 30)
        return "went on"

    task = asyncio.create_task(use())
    await waits.wait()
    if error is None:
        answer.set_result(None)
    else:
        answer.set_exception(error)
    task.cancel()
    await asyncio.wait({task}, timeout=10)
    return task


async def test_a_cancellation_together_with_an_answer_ends_the_task() -> None:
    assert (await cancelled_at_the_answer()).cancelled()


async def test_a_cancellation_together_with_an_error_ends_the_task() -> None:
    assert (await cancelled_at_the_answer(AutoReconnect("away"))).cancelled()


async def test_what_a_cancelled_task_does_at_its_end_is_done() -> None:
    done = []

    async def use() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for step in ("first", "second"):
                with driver_errors():
                    await asyncio.sleep(0)
                    done.append(step)

    task = asyncio.create_task(use())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=10)

    assert done == ["first", "second"]


async def test_a_timeout_around_the_database_is_a_timeout() -> None:
    async def use() -> None:
        async with asyncio.timeout(0.01):
            with driver_errors():
                await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await use()


def test_without_a_loop_errors_are_translated_as_well() -> None:
    with pytest.raises(DatabaseUnavailable), driver_errors():
        raise AutoReconnect("away")
