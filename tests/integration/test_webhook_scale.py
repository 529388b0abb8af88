"""Many webhooks, dead ones among them, a fast log behind a slow receiver, and what a delivery costs."""

import asyncio
import resource
from collections.abc import AsyncIterator, Mapping
from time import monotonic, process_time
from typing import Any

import pytest
from aiohttp import ClientSession, web
from webhook_stack import Clock, WebhookWorld, receiver, until, versions_through, webhook_world

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


async def test_what_a_delivery_costs_beside_a_bare_request(world: WebhookWorld) -> None:
    webhooks, events = 64, 100
    async with receiver() as hook:
        for number in range(webhooks):
            await world.register(hook.url, order_id=[f"o-{number}"])
        grow(world, webhooks, events)
        await world.flush()
        body = b"x" * 900
        async with ClientSession() as session:

            async def bare() -> None:
                for _ in range(events):
                    async with session.post(hook.url, data=body) as response:
                        await response.read()

            hook.record = False
            cpu, began = process_time(), monotonic()
            await asyncio.gather(*(bare() for _ in range(webhooks)))
            bare_cpu, bare_seconds = process_time() - cpu, monotonic() - began
            hook.record = True
        cpu, began = process_time(), monotonic()
        await world.start_sender()
        await until(lambda: hook.count == webhooks * events, seconds=120)
        own_cpu, own_seconds = process_time() - cpu, monotonic() - began
    total = webhooks * events

    print(
        f"{total / own_seconds:.0f} deliveries/s, {own_cpu / total * 1e6:.0f} µs CPU with the receiver;"
        f" bare aiohttp {total / bare_seconds:.0f}/s, {bare_cpu / total * 1e6:.0f} µs"
    )
    assert {tuple(versions) for versions in hook.taken.values()} == {tuple(versions_through(events))}
