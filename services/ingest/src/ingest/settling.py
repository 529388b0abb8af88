"""Waiting for what became of a submission, never longer than asked, and never telling more than is known."""

import asyncio

from ingest.pipeline import Submission
from shared.broker import PUBLISH_TIMEOUT_SECONDS, BrokerUnavailable
from shared.outcomes import Outcome

CONFIRM_PATIENCE_SECONDS = PUBLISH_TIMEOUT_SECONDS + 1
"""The publish has its own timeout; a submission may have waited for the one before it."""


async def settle(submission: Submission, deadline: float) -> Outcome | None:
    """The outcome, or None: the broker has the command for sure, and the outcome is not known yet.

    `deadline` is a time of the running loop.

    Raises:
        BrokerUnavailable: whether the broker has it is unknown. Repeating with the same id is safe.
    """
    if submission.wants_outcome:
        try:
            async with asyncio.timeout_at(deadline):
                return _known(await submission.outcome)
        except TimeoutError:
            pass
    try:
        async with asyncio.timeout(2 * CONFIRM_PATIENCE_SECONDS):
            error = await submission.confirmed
    except TimeoutError:
        raise BrokerUnavailable("no confirm in time") from None
    if error is not None:
        raise error
    return None


def _known(result: Outcome | BrokerUnavailable | None) -> Outcome | None:
    if isinstance(result, BrokerUnavailable):
        raise result
    return result
