"""Many webhooks, dead ones among them, a fast log behind a slow receiver, and what a delivery costs."""

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import Queue, get_context
from time import monotonic, process_time
from typing import Any

import pytest
from aiohttp import ClientSession, web
from webhook_stack import Clock, Sender, WebhookWorld, receiver, until, webhook_world

from tracking_query.webhooks.pending import count_pending
from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_webhooks.domain.message import MEDIA_TYPE, event_message
from tracking_webhooks.domain.progress import MAX_WINDOW_EVENTS
from tracking_webhooks.domain.signature import signed_headers

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


@dataclass(frozen=True)
class Bare:
    """The same requests as a program would make them with aiohttp alone: prepared, and with nothing kept."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    async def cost(self, at_once: int, each: int) -> tuple[float, float]:
        """Seconds of processor time and of time for one request."""
        async with ClientSession() as session:

            async def post() -> None:
                for _ in range(each):
                    async with session.post(self.url, data=self.body, headers=self.headers) as response:
                        await response.read()

            cpu, began = process_time(), monotonic()
            await asyncio.gather(*(post() for _ in range(at_once)))
            total = at_once * each
            return (process_time() - cpu) / total, (monotonic() - began) / total


def bare_request(url: str, event: EventDocument) -> Bare:
    message = event_message(event, DEFAULT_WORKFLOW, with_customer=True)
    signed = signed_headers([bytes(32)], message.message_id, 1_800_000_000, message.body)
    return Bare(url, signed | {"Content-Type": MEDIA_TYPE}, message.body)


class Delivered:
    """Counts what a sender has delivered, and the processor time that it took."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    @property
    def count(self) -> int:
        return sum(one.endpoint._attempts.made for one in self._sender.assignment._running.values())

    async def reach(self, count: int) -> tuple[int, float, float]:
        """Waits for so many; returns how many there are, and the two times by then."""
        await until(lambda: self.count >= count, seconds=120)
        return self.count, process_time(), monotonic()


async def test_what_a_delivery_costs_beside_a_bare_request(world: WebhookWorld, other_process: str) -> None:
    webhooks, events = 64, 200
    total = webhooks * events
    for number in range(webhooks):
        await world.register(other_process, order_id=[f"o-{number}"])
    grow(world, webhooks, events)
    bare = bare_request(other_process, world.world.events[-1])
    await world.flush()
    await bare.cost(webhooks, 10)
    before = await bare.cost(webhooks, events // 2)
    began_cpu, began = process_time(), monotonic()
    sender = Delivered(await world.start_sender())
    started, started_cpu, _ = await sender.reach(total // 10)
    _, ended_cpu, ended = await sender.reach(total)
    after = await bare.cost(webhooks, events // 2)

    own = (ended_cpu - started_cpu) / (total - started)
    with_start = (ended_cpu - began_cpu) / total
    cpu, seconds = (min(pair) for pair in zip(before, after, strict=True))
    print(
        f"{total / (ended - began):.0f} deliveries/s, {own * 1e6:.0f} µs CPU of the sender each"
        f" ({with_start * 1e6:.0f} with its start), {own / cpu:.2f} times;"
        f" bare aiohttp {1 / seconds:.0f}/s, {cpu * 1e6:.0f} µs"
    )
    assert ended - began < 60
    assert own < 3 * cpu  # 2 on a quiet machine
