"""Many webhooks, dead ones among them, a fast log behind a slow receiver, and what a delivery costs."""

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator, Mapping
from multiprocessing import Queue, get_context
from time import monotonic, process_time
from typing import Any

import pytest
from aiohttp import ClientSession, web
from webhook_stack import Clock, WebhookWorld, receiver, until, webhook_world

from tracking_query.webhooks.pending import count_pending
from tracking_shared.contracts.cursors import Position
from tracking_webhooks.domain.progress import MAX_WINDOW_EVENTS

pytestmark = pytest.mark.slow


@pytest.fixture
async def world(mongodb_url: str) -> AsyncIterator[WebhookWorld]:
    async with webhook_world(mongodb_url) as made:
        yield made


def grow(world: WebhookWorld, orders: int, rounds: int) -> None:
    """Adds events to the log, to be flushed."""
    created = {"merchant_id": "m-1", "customer": {"name": "Ada", "contact_ref": "c"}}
    for _ in range(rounds):
        for number in range(orders):
            order_id = f"o-{number}"
            status = "in_transit" if order_id in world.world.orders else "created"
            world.world.apply(order_id, status, world.at, created)


async def test_a_thousand_webhooks_of_which_three_hundred_are_dead(world: WebhookWorld) -> None:
    async def silent(event: Mapping[str, Any]) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with receiver(silent) as dead, receiver() as hook:
        for number in range(1000):
            url = dead.url if number % 10 < 3 else hook.url
            await world.register(url, order_id=[f"o-{number}"])
        await world.add(*(f"o-{number}" for number in range(1000)))
        await world.start_sender()
        began = monotonic()
        await until(lambda: hook.count == 700, seconds=90)
        first = monotonic() - began
        began = monotonic()
        await world.add(*(f"o-{number}" for number in range(1000)))
        await until(lambda: hook.count == 1400, seconds=60)
        second = monotonic() - began

    print(f"700 of 1,000 webhooks: first event after {first:.1f} s, second after {second:.1f} s")
    assert {tuple(versions) for versions in hook.taken.values()} == {(1, 2)}
    assert second < 15  # less than what a receiver that does not answer may take


async def test_ten_thousand_events_a_second_behind_a_receiver_of_ten(world: WebhookWorld) -> None:
    async def slow(event: Mapping[str, Any]) -> web.Response:
        await asyncio.sleep(0.8)  # the receiver's own slowness: 8 at a time make 10 a second
        return web.Response()

    async with receiver(slow) as hook:
        webhook_id, _ = await world.register(hook.url)
        sender = await world.start_sender(Clock())
        await until(lambda: webhook_id in sender.assignment._running)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(10):
            grow(world, 1000, 10)
            await world.flush()
        await until(lambda: hook.count >= 50)
        window = MAX_WINDOW_EVENTS - sender.assignment._running[webhook_id].endpoint.progress.room

        async def saved() -> bool:
            return sum((await world.stored(webhook_id))["seqs"]) >= 40

        await until(saved, seconds=60)
        stored = await world.stored(webhook_id)
        end = Position((await world.position()).epoch, tuple(world.world.seqs))
        pending = await count_pending(world.database, stored, end)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    print(f"100,000 events, {hook.count} delivered: window {window}, process grew by {grown / 1024:.0f} MB")
    assert window <= MAX_WINDOW_EVENTS
    assert pending.exact
    assert pending.events == 100_000 - sum(stored["seqs"])


def _receive(ports: "Queue[int]") -> None:
    """Answers every request in a process of its own, whose processor time is not that of the sender."""

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=204)

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/in", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ports.put(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(serve())


@pytest.fixture
def other_process() -> Iterator[str]:
    """The address of a receiver in a process of its own."""
    context = get_context("spawn")
    ports: Queue[int] = context.Queue()
    process = context.Process(target=_receive, args=(ports,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ports.get(timeout=20)}/in"
    finally:
        process.kill()
        process.join()


async def bare_requests(url: str, at_once: int, each: int) -> None:
    """The same requests by aiohttp alone."""
    async with ClientSession() as session:

        async def post() -> None:
            for _ in range(each):
                async with session.post(url, data=b"x" * 900) as response:
                    await response.read()

        await asyncio.gather(*(post() for _ in range(at_once)))


async def test_what_a_delivery_costs_beside_a_bare_request(world: WebhookWorld, other_process: str) -> None:
    webhooks, events = 64, 100
    total = webhooks * events
    for number in range(webhooks):
        await world.register(other_process, order_id=[f"o-{number}"])
    grow(world, webhooks, events)
    await world.flush()
    await bare_requests(other_process, webhooks, 10)
    cpu, began = process_time(), monotonic()
    await bare_requests(other_process, webhooks, events)
    bare_cpu, bare_seconds = process_time() - cpu, monotonic() - began
    cpu, began = process_time(), monotonic()
    sender = await world.start_sender()

    def delivered() -> int:
        running = sender.assignment._running.values()
        return sum(one.endpoint._attempts.made for one in running)

    await until(lambda: delivered() >= total, seconds=120)
    own_cpu, own_seconds = process_time() - cpu, monotonic() - began

    print(
        f"{total / own_seconds:.0f} deliveries/s, {own_cpu / total * 1e6:.0f} µs CPU of the sender each;"
        f" bare aiohttp {total / bare_seconds:.0f}/s, {bare_cpu / total * 1e6:.0f} µs"
    )
    assert own_seconds < 60
