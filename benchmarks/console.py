"""The console in a real browser: how soon a change is seen, what it costs there, and what is kept of it.

The board shows thousands of open orders. All times are the page's own, but for the load itself.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from secrets import token_hex
from time import perf_counter
from typing import Any

from playwright.async_api import CDPSession, Page, ViewportSize
from playwright.async_api import Error as BrowserError

from benchmarks.chromium import open_browser
from benchmarks.floors import Measure
from benchmarks.http_client import IngestClient, connect_ingest
from benchmarks.load_process import Result, Run, WrongResult, serve_load
from benchmarks.measurement import Measurement
from benchmarks.percentiles import summary_ms
from benchmarks.stack_under_test import StackUnderTest
from benchmarks.workload import MERCHANTS, Step, operation_of
from shared.timestamps import format_time, now

OPEN_ORDERS = 5_000
CLOSED_ORDERS = 5_000
"""As many as the page keeps of those that closed before its eyes: from then on its memory should be flat."""

EVENTS_PER_SECOND = 50
BATCH = 5
MAX_BATCH = 500

PIXEL_SAMPLES = 100
VIEW_SAMPLES = 7
THREAD_SECONDS = 20.0
MEMORY_SECONDS = 120.0
WARM_UP_SECONDS = 25.0
"""By then the page has taken as many measures of its own as it keeps."""

LIVE_MS = 30_000
VIEWPORT = ViewportSize(width=1440, height=900)


@dataclass(frozen=True)
class Parameters:
    """What the load process is told."""

    figure: str
    console_url: str
    ingest_url: str
    token: str
    samples: int | None
    seconds: float | None


def measures(samples: int | None, seconds: float | None) -> Mapping[str, Measure]:
    """How to measure each figure of the console, in `samples` or `seconds` instead of its own."""
    return {name: partial(_measure, name=name, samples=samples, seconds=seconds) for name in FIGURES}


async def _measure(
    stack: StackUnderTest, name: str, samples: int | None, seconds: float | None
) -> Measurement:
    wanted = Parameters(name, stack.console_url, stack.ingest_url, stack.token(), samples, seconds)
    planned = (seconds or MEMORY_SECONDS) + WARM_UP_SECONDS
    return await stack.measure(name, __name__, asdict(wanted), planned)


@asynccontextmanager
async def prepare(parameters: dict[str, Any]) -> AsyncIterator[Run]:
    """Fills the board, and opens it."""
    wanted = Parameters(**parameters)
    client = await connect_ingest(wanted.ingest_url, wanted.token)
    async with open_browser("--enable-precise-memory-info") as browser:
        context = await browser.new_context(viewport=VIEWPORT, locale="en-GB")
        await context.add_init_script(
            f"if (location.protocol.startsWith('http')) sessionStorage['tracking.token'] = '{wanted.token}'"
        )
        scene = Scene(wanted, client, await context.new_page())
        await scene.load.fill()
        await scene.open()

        async def run() -> Result:
            try:
                return await FIGURES[wanted.figure](scene)
            except BrowserError as error:
                raise WrongResult(f"the browser: {error.message.splitlines()[0]}") from None

        yield run
    client.close()


class Load:
    """Open orders that move. Their number stays: of five changes one creates, and one delivers."""

    def __init__(self, client: IngestClient) -> None:
        self._client = client
        self._run = token_hex(4)
        self._created = 0
        self._at = format_time(now())
        self._open: deque[Step] = deque()
        self.sent = 0

    async def fill(self) -> None:
        """Creates the open orders, as many in each status as a steady stream leaves there."""
        steps = [self._new() for _ in range(OPEN_ORDERS)]
        await self._send(steps)
        for stage in range(1, BATCH - 1):
            moved = {index: step.next() for index, step in enumerate(steps) if index % (BATCH - 1) >= stage}
            await self._send(list(moved.values()))
            steps = [moved.get(index, step) for index, step in enumerate(steps)]
        self._open.extend(steps)

    async def close(self, number: int) -> None:
        """Takes so many to their end, as fast as that goes."""
        for _ in range(0, number * BATCH, MAX_BATCH):
            await self._send(self._changes(MAX_BATCH))

    async def flow(self, seconds: float) -> float:
        """Changes at the steady pace for so long; returns how long it took."""
        started = perf_counter()
        for turn in range(int(seconds * EVENTS_PER_SECOND / BATCH)):
            await self._send(self._changes(BATCH))
            await asyncio.sleep(max(0.0, started + (turn + 1) * BATCH / EVENTS_PER_SECOND - perf_counter()))
        return perf_counter() - started

    def _changes(self, number: int) -> list[Step]:
        changes: list[Step] = []
        for _ in range(0, number, BATCH):
            changes.append(self._new())
            changes += [self._open.popleft().next() for _ in range(BATCH - 1)]
        self._open.extend(step for step in changes if not step.is_last)
        return changes

    def _new(self) -> Step:
        number, self._created = self._created, self._created + 1
        return Step(f"{self._run}-{number}", f"merchant-{number % MERCHANTS}", 1, self._at)

    async def _send(self, steps: list[Step]) -> None:
        rest = iter(steps)
        while batch := list(islice(rest, MAX_BATCH)):
            await self._client.send_batch(batch, [operation_of(step) for step in batch])
        self.sent += len(steps)


class Scene:
    """The page, and what moves the orders in it."""

    def __init__(self, wanted: Parameters, client: IngestClient, page: Page) -> None:
        self.wanted = wanted
        self.load = Load(client)
        self.page = page

    async def open(self) -> None:
        """Loads the console, and returns when its board is live."""
        await self.page.goto(self.wanted.console_url)
        await self.page.locator("#connection[data-state=live]").wait_for(timeout=LIVE_MS)

    async def session(self) -> CDPSession:
        """The browser's own view of the page."""
        return await self.page.context.new_cdp_session(self.page)


# The figures


async def _pixel(scene: Scene) -> Result:
    """One update at a time, sent by the page itself: from its POST to the frame that shows it."""
    number = scene.wanted.samples or PIXEL_SAMPLES
    asked = [scene.wanted.ingest_url, scene.wanted.token, number + 10]
    started = perf_counter()
    times = await scene.page.evaluate(POST_TO_PIXEL, asked)
    seconds = [milliseconds / 1000 for milliseconds in times[10:]]
    return {"samples": len(seconds), "seconds": perf_counter() - started, **summary_ms(seconds)}


POST_TO_PIXEL = """async ([ingest, token, number]) => {
  const row = document.querySelector("[data-testid=board-row]:not([hidden])[data-status=created]");
  const drawn = () => new Promise((resolve) => requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => { port1.close(); resolve(); };
    port2.postMessage(null);
  }));
  const becomes = (version) => new Promise((resolve) => {
    const observer = new MutationObserver(() => {
      if (row.dataset.version !== version) return;
      observer.disconnect();
      drawn().then(resolve);
    });
    observer.observe(row, { attributes: true });
  });
  const times = [];
  const address = `${ingest}/v1/orders/${row.dataset.orderId}/updates`;
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  for (let index = 0; index < number; index += 1) {
    const seen = becomes(String(Number(row.dataset.version) + 1));
    const body = JSON.stringify({ status: index ? "in_transit" : "picked_up" });
    const started = performance.now();
    const answer = await fetch(address, { method: "POST", headers, body });
    if (!answer.ok) throw new Error(`an update was answered ${answer.status}`);
    await seen;
    times.push(performance.now() - started);
    await new Promise((resolve) => setTimeout(resolve, 20 + 30 * Math.random()));
  }
  return times;
}"""


async def _thread(scene: Scene) -> Result:
    """What the main thread works for an event of a steady stream, timers and ticking ages included."""
    session = await scene.session()
    await session.send("Performance.enable")
    await scene.load.flow(2)
    before, sent = await _metrics(session), scene.load.sent
    seconds = await scene.load.flow(scene.wanted.seconds or THREAD_SECONDS)
    after, events = await _metrics(session), scene.load.sent - sent
    parts = {"task": "TaskDuration", "script": "ScriptDuration", "style": "RecalcStyleDuration"}
    parts["layout"] = "LayoutDuration"
    costs = {f"{name}_us": (after[metric] - before[metric]) / events * 1e6 for name, metric in parts.items()}
    return {"events": events, "seconds": seconds, **costs}


async def _metrics(session: CDPSession) -> dict[str, float]:
    answer = await session.send("Performance.getMetrics")
    return {metric["name"]: metric["value"] for metric in answer["metrics"]}


async def _memory(scene: Scene) -> Result:
    """How much the heap of scripts grows while the stream goes on, garbage collected at both ends."""
    session = await scene.session()
    await session.send("Performance.enable")
    await scene.load.close(CLOSED_ORDERS)
    await scene.load.flow(WARM_UP_SECONDS)
    before, sent = await _heap_mb(session), scene.load.sent
    seconds = await scene.load.flow(scene.wanted.seconds or MEMORY_SECONDS)
    after = await _heap_mb(session)
    return {
        "events": scene.load.sent - sent,
        "seconds": seconds,
        "heap_mb": after,
        "growth_mb": max(0.0, after - before),
    }


async def _heap_mb(session: CDPSession) -> float:
    for _ in range(2):  # what only the first collection lets go of
        await session.send("HeapProfiler.collectGarbage")
    return (await _metrics(session))["JSHeapUsedSize"] / 1e6


async def _view(scene: Scene) -> Result:
    """From the start of a reload to the first orders on the screen."""
    started = perf_counter()
    times = []
    for _ in range(scene.wanted.samples or VIEW_SAMPLES):
        await scene.open()
        mark = await scene.page.evaluate("performance.getEntriesByName('first-useful-view')[0].startTime")
        times.append(mark / 1000)
    return {"samples": len(times), "seconds": perf_counter() - started, **summary_ms(times)}


async def _weight(scene: Scene) -> Result:
    """The bytes of the page over the wire, heads and configuration included, nothing of it cached."""
    started = perf_counter()
    session = await scene.session()
    await session.send("Network.enable")
    await session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    ours: set[str] = set()
    received: dict[str, float] = {}

    def asked(event: dict[str, Any]) -> None:
        if event["request"]["url"].startswith(scene.wanted.console_url):
            ours.add(event["requestId"])

    session.on("Network.requestWillBeSent", asked)
    session.on(
        "Network.loadingFinished",
        lambda event: received.update({event["requestId"]: event["encodedDataLength"]}),
    )
    await scene.open()
    weights = [received[request] for request in ours & received.keys()]
    return {"files": len(weights), "seconds": perf_counter() - started, "weight_kb": sum(weights) / 1000}


FIGURES: Mapping[str, Callable[[Scene], Awaitable[Result]]] = {
    "console-pixel": _pixel,
    "console-thread": _thread,
    "console-memory": _memory,
    "console-view": _view,
    "console-weight": _weight,
}


if __name__ == "__main__":
    serve_load(prepare)
