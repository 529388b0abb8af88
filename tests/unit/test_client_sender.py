"""The sender of the Python client, against the fake server and its faults."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from tracking_client import (
    BatchRefused,
    BlockingSender,
    Outcome,
    Result,
    Sender,
    SenderClosed,
    TokenUnavailable,
    Undecided,
    correct,
    create,
    update,
)
from tracking_client.fake import FakeServer
from tracking_client.operations import Operation

STEPS = ("picked_up", "in_transit", "delivered")


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as server:
        yield server


class Awaited:
    """A blocking sender with the methods of `Sender`: each blocks a thread of its own."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._sender = BlockingSender(*arguments, **options)

    async def __aenter__(self) -> "Awaited":
        await asyncio.to_thread(self._sender.__enter__)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await asyncio.to_thread(self._sender.__exit__, *error)

    async def send(self, operation: Operation) -> Result:
        return await asyncio.to_thread(self._sender.send, operation)

    async def submit(self, operation: Operation) -> "asyncio.Future[Result]":
        return asyncio.wrap_future(await asyncio.to_thread(self._sender.submit, operation))

    async def flush(self) -> None:
        await asyncio.to_thread(self._sender.flush)

    async def outcome(self, order_id: str, update_id: str) -> Result | None:
        return await asyncio.to_thread(self._sender.outcome, order_id, update_id)


@pytest.fixture(params=[Sender, Awaited], ids=["asyncio", "blocking"])
async def sender(request: pytest.FixtureRequest, server: FakeServer) -> AsyncIterator[Sender]:
    async with request.param(server.url, server.token()) as sender:
        yield sender


def _create(order_id: str, merchant_id: str = "acme") -> Operation:
    return create(order_id, merchant_id=merchant_id, name="Ada Example", contact_ref="crm:17")


async def test_results_are_values(sender: Sender) -> None:
    created = await sender.send(_create("o-1"))
    refused = await sender.send(update("o-1", "delivered"))

    assert (created.outcome, created.version, created.is_applied) == (Outcome.APPLIED, 1, True)
    assert refused.outcome is Outcome.REJECTED
    assert refused.problem is not None
    assert refused.problem.slug == "invalid-transition"
    assert refused.problem.document["allowed_next"] == ["picked_up", "cancelled"]


async def test_a_repeat_of_an_operation_has_no_second_effect(server: FakeServer, sender: Sender) -> None:
    operation = _create("o-1")
    await sender.send(operation)
    again = await sender.send(operation)

    assert (again.outcome, again.is_applied) == (Outcome.DUPLICATE, True)
    assert len(server.events) == 1


async def test_operations_of_one_order_keep_their_order_through_faults(
    server: FakeServer, sender: Sender
) -> None:
    server.faults.refuse_next(2)
    server.faults.lose_next_answers(3)
    server.faults.accept_next(30)
    orders = [f"o-{number}" for number in range(40)]
    operations = [_create(order_id) for order_id in orders]
    operations += [update(order_id, status) for status in STEPS for order_id in orders]

    results = await asyncio.gather(*(sender.send(operation) for operation in operations))

    assert all(result.is_applied for result in results)
    assert len(server.events) == len(operations)
    assert {order["status"] for order in server.orders.values()} == {"delivered"}


async def test_an_accepted_update_is_followed_and_not_sent_again(server: FakeServer, sender: Sender) -> None:
    server.faults.accept_next(1, reads=2)
    result = await sender.send(_create("o-1"))
    assert (result.outcome, result.version) == (Outcome.APPLIED, 1)  # a second sending would be a duplicate


async def test_a_lost_answer_is_repeated_under_the_same_update_id(server: FakeServer, sender: Sender) -> None:
    server.faults.lose_next_answers()
    result = await sender.send(_create("o-1"))
    assert result.outcome is Outcome.DUPLICATE
    assert len(server.events) == 1


async def test_retry_after_is_heeded(server: FakeServer, sender: Sender) -> None:
    server.faults.refuse_next(retry_after_seconds=1)
    start = asyncio.get_running_loop().time()
    assert (await sender.send(_create("o-1"))).is_applied
    assert asyncio.get_running_loop().time() - start >= 1.0


async def test_what_stays_undecided_is_given_up_and_can_be_sent_again(server: FakeServer) -> None:
    operation = _create("o-1")
    server.faults.refuse_next(1000)
    async with Sender(server.url, server.token(), give_up_seconds=0.5) as sender:
        with pytest.raises(Undecided, match="503"):
            await sender.send(operation)
        server.faults.refuse_next(0)
        assert (await sender.send(operation)).is_applied


async def test_no_more_than_max_pending_operations_are_taken(server: FakeServer) -> None:
    server.faults.refuse_next(1000)
    async with Sender(server.url, server.token(), max_pending=3) as sender:
        for number in range(3):
            await sender.submit(_create(f"o-{number}"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await sender.submit(_create("o-3"))
        server.faults.refuse_next(0)
        assert (await sender.send(_create("o-4"))).is_applied
    assert server.orders.keys() == {"o-0", "o-1", "o-2", "o-4"}


async def test_the_end_of_the_block_waits_for_everything_submitted(server: FakeServer) -> None:
    server.faults.refuse_next(3)
    async with Sender(server.url, server.token()) as sender:
        results = [await sender.submit(_create(f"o-{number}")) for number in range(50)]
    assert all(result.done() and result.result().is_applied for result in results)


async def test_an_error_in_the_block_abandons_what_is_undecided(server: FakeServer) -> None:
    server.faults.refuse_next(1000)
    results: list[asyncio.Future[Result]] = []

    async def break_off() -> None:
        async with Sender(server.url, server.token()) as sender:
            results.append(await sender.submit(_create("o-1")))
            results.append(await sender.submit(update("o-1", "picked_up")))
            raise KeyError

    with pytest.raises(KeyError):
        await break_off()
    assert [type(result.exception()) for result in results] == [SenderClosed, SenderClosed]


async def test_a_closed_sender_takes_nothing(server: FakeServer) -> None:
    async with Sender(server.url, server.token()) as sender:
        pass
    with pytest.raises(SenderClosed):
        await sender.send(_create("o-1"))


async def test_a_cancelled_operation_does_not_hold_up_its_order(server: FakeServer, sender: Sender) -> None:
    server.faults.refuse_next(3)
    first = await sender.submit(_create("o-1"))
    second = await sender.submit(update("o-1", "cancelled"))
    second.cancel()
    third = await sender.submit(update("o-1", "picked_up"))
    assert (await third).version == 2
    assert (await first).version == 1


async def test_a_refused_token_fails_the_operation_and_the_problem_is_typed(server: FakeServer) -> None:
    async with Sender(server.url, server.token(ttl_seconds=-1)) as sender:
        with pytest.raises(BatchRefused, match="answers 401") as refusal:
            await sender.send(_create("o-1"))
    assert refusal.value.problem is not None
    assert refusal.value.problem.slug == "unauthenticated"


async def test_a_fresh_token_is_asked_for_when_one_is_refused(server: FakeServer) -> None:
    tokens = iter([server.token(ttl_seconds=-1), server.token()])

    async def next_token() -> str:
        return next(tokens)

    async with Sender(server.url, next_token) as sender:
        assert (await sender.send(_create("o-1"))).is_applied


async def test_one_fresh_token_is_tried_and_no_more(server: FakeServer) -> None:
    asked = 0

    def next_token() -> str:
        nonlocal asked
        asked += 1
        return server.token(sub=f"caller-{asked}", ttl_seconds=-1)

    async with Sender(server.url, next_token) as sender:
        with pytest.raises(BatchRefused, match="answers 401"):
            await sender.send(_create("o-1"))
    assert asked == 2


async def test_a_token_that_comes_later_is_waited_for(server: FakeServer) -> None:
    asked = 0

    def next_token() -> str:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise TokenUnavailable("not yet")
        return server.token()

    async with Sender(server.url, next_token) as sender:
        assert (await sender.send(_create("o-1"))).is_applied


async def test_an_error_of_the_token_function_reaches_the_caller(server: FakeServer) -> None:
    def next_token() -> str:
        raise KeyError("password")

    async with Sender(server.url, next_token) as sender:
        with pytest.raises(KeyError):
            await sender.send(_create("o-1"))


async def test_one_refused_operation_does_not_fail_the_others_of_its_batch(server: FakeServer) -> None:
    async with Sender(server.url, server.token(merchants=["acme"])) as sender:
        results = await asyncio.gather(
            sender.send(_create("o-1")),
            sender.send(_create("o-2", "globex")),
            sender.send(correct("o-3", "created", reason="none")),
        )
    assert [result.problem and result.problem.slug for result in results] == [
        None,
        "forbidden",
        "order-not-found",
    ]


async def test_the_outcome_of_an_update_can_be_read_later(sender: Sender) -> None:
    operation = _create("o-1")
    await sender.send(operation)
    outcome = await sender.outcome("o-1", operation.update_id)
    assert outcome is not None
    assert (outcome.outcome, outcome.version) == (Outcome.APPLIED, 1)
    assert await sender.outcome("o-1", "another") is None


async def test_nothing_listens_at_the_address() -> None:
    async with Sender("http://127.0.0.1:9", "token", give_up_seconds=0.3) as sender:
        with pytest.raises(Undecided, match=r"127\.0\.0\.1:9"):
            await sender.send(_create("o-1"))


async def test_a_blocking_sender_is_used_from_threads_and_ends_its_own(server: FakeServer) -> None:
    def program() -> list[Result]:
        with BlockingSender(server.url, server.token()) as sender:
            with ThreadPoolExecutor(8) as pool:
                results = list(pool.map(sender.send, [_create(f"o-{number}") for number in range(40)]))
            futures = [sender.submit(update(f"o-{number}", "picked_up")) for number in range(40)]
        return results + [future.result(timeout=0) for future in futures]

    results = await asyncio.to_thread(program)
    assert all(result.is_applied for result in results)
    assert len(server.events) == 80
    assert "tracking-sender" not in {thread.name for thread in threading.enumerate()}


async def test_threads_that_still_wait_when_it_ends_are_released(server: FakeServer) -> None:
    def program() -> None:
        server.faults.refuse_next(1000, retry_after_seconds=1)
        with suppress(LookupError), BlockingSender(server.url, server.token(), max_pending=1) as sender:
            sender.submit(_create("o-1"))
            waiting.append(pool.submit(sender.submit, _create("o-2")))
            raise LookupError

    waiting: list[Future[Any]] = []
    with ThreadPoolExecutor(1) as pool:
        await asyncio.to_thread(program)
        with pytest.raises(SenderClosed):
            waiting[0].result(timeout=10)


async def test_a_call_of_another_thread_at_the_moment_of_the_end_is_answered(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over = asyncio.run_coroutine_threadsafe
    begun, ended = threading.Event(), threading.Event()

    def hand_over_late(work: Any, loop: asyncio.AbstractEventLoop) -> Future[Any]:
        if threading.current_thread().name.startswith("other"):
            begun.set()
            ended.wait(0.5)
        return hand_over(work, loop)

    def program() -> None:
        with ThreadPoolExecutor(1, thread_name_prefix="other") as pool:
            with BlockingSender(server.url, server.token()) as sender:
                monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", hand_over_late)
                flushed = pool.submit(sender.flush)
                assert begun.wait(10)
            ended.set()
            with suppress(SenderClosed):
                flushed.result(timeout=10)

    await asyncio.to_thread(program)


async def test_a_blocking_sender_that_is_not_open_says_so(server: FakeServer) -> None:
    sender = BlockingSender(server.url, server.token())
    with pytest.raises(SenderClosed):
        sender.send(_create("o-1"))

    def fail() -> None:
        with sender:
            server.faults.refuse_next(1000, retry_after_seconds=1)
            futures.append(sender.submit(_create("o-1")))
            raise LookupError

    futures: list[Future[Result]] = []
    with pytest.raises(LookupError):
        await asyncio.to_thread(fail)
    with pytest.raises(SenderClosed):
        futures[0].result(timeout=0)
