"""The wait of a caller for the outcome of its command."""

import asyncio
from typing import Any, cast

import pytest

from tracking_ingest.submission.pipeline import Submission, wait_for_outcome
from tracking_shared.contracts.commands import Outcome
from tracking_shared.messaging.errors import BrokerUnavailable

OUTCOME = cast(Outcome, {"outcome": "applied"})


def submission() -> Submission:
    loop = asyncio.get_running_loop()
    return Submission(b"{}", True, loop.create_future(), loop.create_future())


def in_seconds(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_an_outcome_that_is_there_is_the_answer_even_after_the_deadline() -> None:
    sent = submission()
    sent.outcome.set_result(OUTCOME)
    assert await wait_for_outcome(sent, in_seconds(-1)) == OUTCOME


async def test_an_outcome_that_comes_in_time_is_the_answer() -> None:
    sent = submission()
    waiting = asyncio.create_task(wait_for_outcome(sent, in_seconds(60)))
    await asyncio.sleep(0)
    sent.outcome.set_result(OUTCOME)
    assert await waiting == OUTCOME


async def test_without_an_outcome_in_time_the_confirm_of_the_broker_is_enough() -> None:
    sent = submission()
    sent.confirmed.set_result(None)
    assert await wait_for_outcome(sent, in_seconds(0.01)) is None
    assert sent.outcome.done()  # one that comes late is dropped


async def test_without_either_it_is_unknown_whether_the_broker_has_it() -> None:
    sent = submission()
    sent.confirmed.set_result(BrokerUnavailable("lost"))
    with pytest.raises(BrokerUnavailable, match="lost"):
        await wait_for_outcome(sent, in_seconds(0.01))


async def test_a_broker_that_is_lost_meanwhile_ends_the_wait() -> None:
    sent = submission()
    waiting = asyncio.create_task(wait_for_outcome(sent, in_seconds(60)))
    await asyncio.sleep(0)
    sent.resolve_confirm(BrokerUnavailable("lost"))
    with pytest.raises(BrokerUnavailable, match="lost"):
        await waiting


async def test_a_parked_command_has_no_outcome() -> None:
    sent = submission()
    sent.confirmed.set_result(None)
    sent.outcome.set_result(None)
    assert await wait_for_outcome(sent, in_seconds(60)) is None


async def test_a_caller_that_leaves_ends_its_wait_alone() -> None:
    sent = submission()
    waiting: asyncio.Task[Any] = asyncio.create_task(wait_for_outcome(sent, in_seconds(60)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    sent.resolve_confirm(None)
    assert sent.confirmed.done()
