"""How deliveries go, with the log and the webhooks in memory and receivers on the loopback interface."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic, time
from typing import Any

import orjson
import pytest
from aiohttp import web
from webhook_memory import EVERYTHING, MemoryWorld

from tracking_shared.auth.revocations import Revocations
from tracking_shared.contracts.documents import EventDocument
from tracking_webhooks.domain.progress import MAX_IN_FLIGHT, MAX_WINDOW_EVENTS
from tracking_webhooks.domain.rendezvous import preferred_sender
from tracking_webhooks.metrics import MISSED_EVENTS
from tracking_webhooks.processing import endpoint
from tracking_webhooks.processing.capacity import SLOW_REQUESTS
from tracking_webhooks.processing.endpoint import refreshed_events

Behave = Callable[[Any], Awaitable[int]]


async def accept(event: Any) -> int:
    return 204


class Hook:
    """A receiver that writes down what it accepts."""

    def __init__(self, behave: Behave) -> None:
        self.behave = behave
        self.url = ""
        self.bodies: list[bytes] = []
        self.taken: dict[str, list[int]] = defaultdict(list)
        self.in_hand = 0
        self.most_in_hand = 0

    @property
    def count(self) -> int:
        return sum(map(len, self.taken.values()))

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(body)
        event = orjson.loads(body)
        self.in_hand += 1
        self.most_in_hand = max(self.most_in_hand, self.in_hand)
        try:
            status = await self.behave(event)
        finally:
            self.in_hand -= 1
        if status < 300 and "version" in event["data"]:
            self.taken[event["subject"]].append(event["data"]["version"])
        return web.Response(status=status)


@asynccontextmanager
async def receiver(behave: Behave = accept) -> AsyncIterator[Hook]:
    hook = Hook(behave)
    app = web.Application()
    app.router.add_post("/", hook.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hook.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield hook
    finally:
        await runner.cleanup()


async def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, "not in time"
        await asyncio.sleep(0.005)


async def test_what_is_in_the_log_and_what_follows_is_delivered_and_saved() -> None:
    world = MemoryWorld()
    async with receiver() as hook:
        webhook = world.register("w", hook.url)
        world.add("a", "b", "a")
        async with world.sender():
            await until(lambda: hook.count == 3)
            world.add("a", "b", "c")
            await until(lambda: hook.count == 6)
            await until(lambda: webhook["seqs"] == [len(events) for events in world.log.events])

    assert hook.taken == {"a": [1, 2, 3], "b": [1, 2], "c": [1]}
    assert webhook["state"] == "active"
    assert webhook["last_attempt"] is not None
    assert len(world.store.attempts) == 6
    assert webhook["sender"] is None


async def test_events_that_were_archived_before_their_delivery_are_counted_once() -> None:
    world = MemoryWorld()
    before = MISSED_EVENTS._value.get()
    async with receiver() as hook:
        webhook = world.register("w", hook.url)
        world.add("kept", *("gone",) * 3, "kept")
        world.log.archived.add("gone")
        for _ in range(2):  # the second time, as after a crash before the position was saved
            async with world.sender():
                await until(lambda: webhook["seqs"] == [len(events) for events in world.log.events])
            webhook["seqs"] = [0] * len(webhook["seqs"])

    missed = webhook["missed"]
    assert missed is not None
    assert missed["events"] == 3
    assert MISSED_EVENTS._value.get() - before == 3
    assert hook.taken == {"kept": [1, 2, 1, 2]}


async def test_a_delayed_order_that_was_archived_before_its_next_attempt_is_counted() -> None:
    now = time()
    world = MemoryWorld()

    async def behave(event: Any) -> int:
        return 500

    async with receiver(behave) as hook:
        webhook = world.register("w", hook.url)
        world.add("gone")
        async with world.sender(clock=lambda: now) as assignment:
            await until(lambda: len(webhook["delayed"]) == 1)
            world.log.archived.add("gone")
            now += 3600
            assignment.wake_all()
            await until(lambda: webhook["missed"] is not None)

    missed = webhook["missed"]
    assert missed is not None
    assert missed["events"] == 1
    assert webhook["delayed"] == []


async def test_events_that_were_archived_before_they_were_read_stop_nothing() -> None:
    world = MemoryWorld()
    async with receiver() as hook:
        world.register("w", hook.url)
        async with world.sender():
            world.add("first")
            await until(lambda: hook.count == 1)
            world.log.archived.add("gone")
            world.add("gone", "gone", "kept")
            await until(lambda: hook.count == 2)

    assert hook.taken == {"first": [1], "kept": [1]}


async def test_nothing_is_missed_where_nothing_was_archived() -> None:
    world = MemoryWorld()
    async with receiver() as hook:
        webhook = world.register("w", hook.url)
        world.add("a", "b")
        async with world.sender():
            await until(lambda: hook.count == 2)

    assert webhook["missed"] is None


@pytest.mark.parametrize(
    ("requests", "seconds", "expected"),
    [(0, 0.0, 10), (30, 2.0, 30), (30, 4.0, 15), (30, 60.0, 10), (9, 0.1, 10), (5_000, 3.0, 100)],
)
def test_as_many_events_are_read_again_as_are_sent_while_they_are_fresh(
    requests: int, seconds: float, expected: int
) -> None:
    assert refreshed_events(requests, seconds) == expected


async def test_a_long_log_is_read_piece_by_piece() -> None:
    world = MemoryWorld()

    async def behave(event: Any) -> int:
        await asyncio.sleep(0.001)  # the receiver's own work
        return 200

    async with receiver(behave) as hook:
        webhook = world.register("w", hook.url)
        world.add(*(f"o-{number % 40}" for number in range(3000)))
        async with world.sender() as assignment:
            await until(lambda: hook.count >= 100)
            window = MAX_WINDOW_EVENTS - assignment._running["w"].endpoint.progress.room
            await until(lambda: hook.count == 3000, seconds=60)
            await until(lambda: webhook["seqs"] == [len(events) for events in world.log.events])
        saves = world.store.saves

    assert {tuple(versions) for versions in hook.taken.values()} == {tuple(range(1, 76))}
    assert window <= MAX_WINDOW_EVENTS
    assert 1 < hook.most_in_hand <= MAX_IN_FLIGHT
    assert saves < 200


async def test_an_order_that_fails_waits_alone_and_arrives_when_its_time_has_come() -> None:
    healthy = asyncio.Event()
    now = time()
    world = MemoryWorld()

    async def behave(event: Any) -> int:
        return 500 if event["subject"] == "bad" and not healthy.is_set() else 200

    async with receiver(behave) as hook:
        webhook = world.register("w", hook.url)
        world.add("bad", "a", "bad", "b", "bad")
        async with world.sender(clock=lambda: now) as assignment:
            await until(lambda: hook.count == 2)
            await until(lambda: webhook["state"] == "failing")
            world.add("bad", "a")
            await until(lambda: hook.count == 3)
            healthy.set()
            now += 3600
            assignment.wake_all()
            await until(lambda: hook.count == 7)
            await until(lambda: webhook["state"] == "active")

    assert hook.taken == {"a": [1, 2], "b": [1], "bad": [1, 2, 3, 4]}
    assert webhook["delayed"] == []


async def test_a_delivery_that_failed_is_resumed_by_the_next_replica() -> None:
    now = time()
    world = MemoryWorld()
    statuses = iter([500])

    async def behave(event: Any) -> int:
        return next(statuses, 200)

    async with receiver(behave) as hook:
        webhook = world.register("w", hook.url)
        world.add("a", "a")
        async with world.sender("first", clock=lambda: now):
            await until(lambda: len(hook.bodies) == 1)
        assert [one["order_id"] for one in webhook["delayed"]] == ["a"]
        now += 3600
        async with world.sender("second", clock=lambda: now):
            await until(lambda: hook.count == 2)

    assert hook.taken == {"a": [1, 2]}


async def test_two_replicas_deliver_each_event_once() -> None:
    world = MemoryWorld()
    async with receiver() as hook:
        for number in range(20):
            grant = {**EVERYTHING, "merchants": [f"m-{number}"]}
            world.register(f"w-{number}", hook.url, grant=grant)
        async with world.sender("a") as first, world.sender("b") as second:
            await until(lambda: len(first._running) + len(second._running) == 20 and len(second._running) > 0)
            await until(lambda: all(one["sender"] for one in world.store.webhooks.values()))
            for number in range(20):
                world.add(f"o-{number}", f"o-{number}", merchant=f"m-{number}")
            await until(lambda: hook.count >= 40)

    assert {tuple(versions) for versions in hook.taken.values()} == {(1, 2)}
    assert world.store.beats == {}


async def test_a_webhook_that_its_replica_could_not_give_up_is_delivered_by_the_next_one() -> None:
    world = MemoryWorld()
    async with receiver() as hook:
        name = next(f"w-{number}" for number in range(100) if preferred_sender(f"w-{number}", "ab") == "b")
        world.register(name, hook.url, sender="a")
        world.store.beats["b"] = 0
        world.add("o-1")
        async with world.sender("a"), world.sender("b"):
            await until(lambda: hook.count == 1)

    assert hook.taken == {"o-1": [1]}


async def test_who_is_revoked_gets_nothing_more() -> None:
    world = MemoryWorld()
    async with receiver() as hook:
        webhook = world.register("w", hook.url)
        world.add("a")
        async with world.sender() as assignment:
            await until(lambda: hook.count == 1)
            world.revocations.known = Revocations(issued_before={"shop": time()})
            assignment.wake_all()
            await until(lambda: webhook["reason"] == "revoked")
            world.add("a")
            await asyncio.sleep(0.1)  # nothing is to happen in it

    assert hook.taken == {"a": [1]}
    assert webhook["state"] == "disabled"


async def test_who_is_revoked_while_a_delivery_waits_for_a_place_gets_nothing_more() -> None:
    world = MemoryWorld()
    async with receiver() as hook:
        world.register("w", hook.url)
        async with world.sender() as assignment:
            await until(lambda: "w" in assignment._running)
            endpoint = assignment._running["w"].endpoint
            async with AsyncExitStack() as places:
                for _ in range(SLOW_REQUESTS):
                    await places.enter_async_context(endpoint._parts.capacity.place(suspect=True))
                world.add("a")
                await until(lambda: endpoint.progress.in_flight == 1)
                world.revocations.known = Revocations(issued_before={"shop": time() + 60})
            await until(lambda: endpoint.progress.in_flight == 0)

    assert hook.bodies == []


async def test_a_test_delivery_is_made_once_and_also_of_a_disabled_webhook() -> None:
    world = MemoryWorld()
    async with receiver() as hook:
        webhook = world.register("w", hook.url, state="disabled", reason="gone")
        world.add("a")
        async with world.sender() as assignment:
            await until(lambda: "w" in assignment._running)
            webhook["tests"].append({"id": "test_1", "requested_at": webhook["created_at"]})
            await until(lambda: len(world.store.attempts) == 1)
            await until(lambda: webhook["tests"] == [])

    assert [orjson.loads(body)["type"] for body in hook.bodies] == ["webhook.test"]
    assert hook.count == 0


async def test_a_test_delivery_that_is_asked_for_while_one_is_under_way_is_made_too() -> None:
    world, release = MemoryWorld(), asyncio.Event()

    async def behave(event: Any) -> int:
        await release.wait()
        return 200

    async with receiver(behave) as hook:
        webhook = world.register("w", hook.url)
        async with world.sender():
            webhook["tests"].append({"id": "test_1", "requested_at": webhook["created_at"]})
            await until(lambda: len(hook.bodies) == 1)
            webhook["tests"].append({"id": "test_2", "requested_at": webhook["created_at"]})
            await until(lambda: len(hook.bodies) == 2)
            release.set()
            await until(lambda: webhook["tests"] == [])

    assert [orjson.loads(body)["id"] for body in hook.bodies] == ["test_1", "test_2"]
    assert {one["event_id"] for one in world.store.attempts.values()} == {"test_1", "test_2"}


async def test_many_webhooks_are_saved_together() -> None:
    world = MemoryWorld()
    async with receiver() as hook:
        webhooks = [world.register(f"w-{number}", hook.url) for number in range(40)]
        world.add(*(f"o-{number}" for number in range(25)))
        async with world.sender():
            await until(lambda: hook.count == 1000)
            ends = [len(events) for events in world.log.events]
            await until(lambda: all(one["seqs"] == ends for one in webhooks))
            saves = world.store.saves

    assert saves < 40


async def test_dead_receivers_do_not_delay_others() -> None:
    world = MemoryWorld()

    async def silent(event: Any) -> int:
        await asyncio.Event().wait()
        return 200

    async with receiver(silent) as dead, receiver() as hook:
        for number in range(100):
            world.register(f"w-{number}", dead.url if number < 30 else hook.url)
        world.add("a")
        began = monotonic()
        async with world.sender():
            await until(lambda: hook.count == 70)
            world.add("a")
            await until(lambda: hook.count == 140)
            seconds = monotonic() - began

    assert seconds < 10


async def test_a_stop_does_not_wait_for_a_receiver_that_does_not_answer() -> None:
    world = MemoryWorld()

    async def silent(event: Any) -> int:
        await asyncio.Event().wait()
        return 200

    async with receiver(silent) as hook:
        webhook = world.register("w", hook.url)
        world.add("a")
        async with world.sender():
            await until(lambda: len(hook.bodies) == 1)
            began = monotonic()
        seconds = monotonic() - began

    assert seconds < 6
    assert webhook["seqs"] == [0, 0]
    assert webhook["sender"] is None


async def test_what_is_in_memory_for_long_is_read_again_before_it_is_sent() -> None:
    world = MemoryWorld()
    now = 0.0
    async with receiver() as first, receiver() as late:
        world.register("first", first.url)
        async with world.sender(ages=lambda: now) as assignment:
            await until(lambda: "first" in assignment._running)
            await until(lambda: assignment._running["first"].endpoint.progress.in_flight == 0)
            world.add("a")
            await until(lambda: first.count == 1)
            now += 60
            world.log.erase("a")
            world.register("late", late.url)
            await until(lambda: late.count >= 1)

    assert b"crm-1" in first.bodies[0]
    assert b"crm-1" not in late.bodies[0]


@pytest.mark.parametrize("is_erased", [False, True])
async def test_an_event_that_waits_is_read_again_only_after_an_erasure(
    monkeypatch: pytest.MonkeyPatch, is_erased: bool
) -> None:
    monkeypatch.setattr(endpoint, "FRESH_SECONDS", 1.0)  # longer than the tail takes from look to look
    world = MemoryWorld()
    now = time()
    release = asyncio.Event()

    async def behave(event: Any) -> int:
        await release.wait()
        return 200

    async with receiver(behave) as hook, world.sender(clock=lambda: now) as assignment:
        world.register("w", hook.url)
        await until(lambda: "w" in assignment._running)
        world.add("a", "a")
        await until(lambda: hook.in_hand == 1)
        now -= 60  # the clock of the machine is set back
        if is_erased:
            world.log.erase("a")
        waited_until = monotonic() + 1.3  # by then, what was read is old
        await until(lambda: monotonic() > waited_until)
        release.set()
        await until(lambda: hook.count >= 2)

    assert (world.log.read_again_events > 0) == is_erased
    assert [b"crm-1" in body for body in hook.bodies[:2]] == [True, not is_erased]


async def test_an_event_that_was_archived_before_the_delivery_is_sent_without_the_customer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nothing(events: Any) -> list[EventDocument]:
        return []

    world = MemoryWorld()
    now = 0.0
    monkeypatch.setattr(world.log, "read_again", nothing)
    async with receiver() as hook, world.sender(ages=lambda: now) as assignment:
        world.register("first", hook.url)
        await until(lambda: "first" in assignment._running)
        world.add("a")
        await until(lambda: hook.count == 1)
        now += 60
        world.log.archived.add("a")
        world.register("late", hook.url)
        await until(lambda: hook.count == 2)

    assert [b"crm-1" in body for body in hook.bodies] == [True, False]


async def test_a_customer_that_was_erased_before_the_delivery_is_not_in_it() -> None:
    now = time()
    world = MemoryWorld()
    statuses = iter([500])

    async def behave(event: Any) -> int:
        return next(statuses, 200)

    async with receiver(behave) as hook:
        webhook = world.register("w", hook.url)
        world.add("a")
        async with world.sender(clock=lambda: now, ages=lambda: now) as assignment:
            await until(lambda: webhook["state"] == "failing")
            world.log.erase("a")
            now += 3600
            assignment.wake_all()
            await until(lambda: hook.count >= 1)

    assert b"crm-1" in hook.bodies[0]
    assert b"crm-1" not in hook.bodies[1]
