"""Group commit: one message in flight, the next carries what came meanwhile, a loss is told to all."""

import asyncio
from contextlib import suppress

import pytest

from tracking_ingest.submission.pipeline import MAX_WAITING_BYTES, Pipeline, Submission
from tracking_shared.contracts.commands import MAX_COMMANDS_MESSAGE_BYTES, MAX_COMMANDS_PER_MESSAGE
from tracking_shared.messaging.errors import BrokerUnavailable, PublishRefused


class Broker:
    """Takes messages, and answers each one when the test says so."""

    def __init__(self) -> None:
        self.messages: list[list[bytes]] = []
        self.answers: asyncio.Queue[Exception | None] = asyncio.Queue()

    async def send(self, group: list[Submission], body: bytes) -> None:
        assert body == b"[" + b",".join(submission.encoded for submission in group) + b"]"
        self.messages.append([submission.encoded for submission in group])
        answer = await self.answers.get()
        if answer:
            raise answer


def submission(encoded: bytes = b"{}") -> Submission:
    loop = asyncio.get_running_loop()
    return Submission(encoded, True, loop.create_future(), loop.create_future())


def submit(pipeline: Pipeline, *encoded: bytes) -> list[Submission]:
    submissions = [submission(text) for text in encoded]
    for one in submissions:
        pipeline.submit(one)
    return submissions


async def published(broker: Broker, number: int) -> None:
    async with asyncio.timeout(30):
        while len(broker.messages) < number:  # noqa: ASYNC110 - a fake without an event
            await asyncio.sleep(0)


async def test_what_arrives_while_one_is_in_flight_rides_together_in_the_next() -> None:
    broker = Broker()
    pipeline = Pipeline(broker.send)
    running = asyncio.create_task(pipeline.run())
    first = submit(pipeline, b"1")
    await published(broker, 1)
    rest = submit(pipeline, b"2", b"3", b"4")
    assert not first[0].confirmed.done()
    broker.answers.put_nowait(None)
    assert await first[0].confirmed is None
    await published(broker, 2)
    assert broker.messages == [[b"1"], [b"2", b"3", b"4"]]
    broker.answers.put_nowait(None)
    assert [await one.confirmed for one in rest] == [None, None, None]
    running.cancel()


async def test_a_message_is_bounded_by_count_and_by_bytes() -> None:
    broker = Broker()
    pipeline = Pipeline(broker.send)
    submit(pipeline, *[b"x"] * (MAX_COMMANDS_PER_MESSAGE + 1))
    submit(pipeline, b"y" * (MAX_COMMANDS_MESSAGE_BYTES - 1), b"z", b"z")
    for _ in range(5):
        broker.answers.put_nowait(None)
    running = asyncio.create_task(pipeline.run())
    await published(broker, 3)
    assert [len(message) for message in broker.messages] == [MAX_COMMANDS_PER_MESSAGE, 2, 2]
    running.cancel()


async def test_what_waits_is_bounded() -> None:
    pipeline = Pipeline(Broker().send)
    submit(pipeline, b"x" * MAX_WAITING_BYTES)
    with pytest.raises(BrokerUnavailable):
        submit(pipeline, b"x")


async def test_a_refused_message_fails_alone() -> None:
    broker = Broker()
    pipeline = Pipeline(broker.send)
    running = asyncio.create_task(pipeline.run())
    refused = submit(pipeline, b"1")
    broker.answers.put_nowait(PublishRefused("full"))
    assert isinstance(await refused[0].confirmed, PublishRefused)
    taken = submit(pipeline, b"2")
    broker.answers.put_nowait(None)
    assert await taken[0].confirmed is None
    running.cancel()


async def test_what_waits_behind_a_refused_message_does_not_overtake_it() -> None:
    broker = Broker()
    pipeline = Pipeline(broker.send)
    running = asyncio.create_task(pipeline.run())
    refused = submit(pipeline, b"create")
    await published(broker, 1)
    refused += submit(pipeline, b"update")
    broker.answers.put_nowait(PublishRefused("full"))
    assert [type(await one.confirmed) for one in refused] == [PublishRefused, PublishRefused]
    again = submit(pipeline, b"create", b"update")
    broker.answers.put_nowait(None)
    assert [await one.confirmed for one in again] == [None, None]
    assert broker.messages == [[b"create"], [b"create", b"update"]]
    running.cancel()


async def test_what_is_small_does_not_overtake_what_found_no_room() -> None:
    broker = Broker()
    pipeline = Pipeline(broker.send)
    submit(pipeline, b"x" * (MAX_WAITING_BYTES - 10))
    for late in (b"a long create", b"update"):
        with pytest.raises(BrokerUnavailable):
            submit(pipeline, late)
    running = asyncio.create_task(pipeline.run())
    await published(broker, 1)
    submit(pipeline, b"a long create", b"update")
    running.cancel()


@pytest.mark.parametrize("how", ["error", "cancel"])
async def test_a_lost_broker_is_told_to_everybody_in_flight_and_waiting(how: str) -> None:
    broker = Broker()
    pipeline = Pipeline(broker.send)
    running = asyncio.create_task(pipeline.run())
    submissions = submit(pipeline, b"1")
    await published(broker, 1)
    submissions += submit(pipeline, b"2")
    if how == "error":
        broker.answers.put_nowait(BrokerUnavailable("gone"))
    else:
        running.cancel()
    with suppress(BrokerUnavailable, asyncio.CancelledError):
        await running
    assert all(one.confirmed.done() and one.outcome.done() for one in submissions)
    assert all(isinstance(one.outcome.result(), BrokerUnavailable) for one in submissions)
