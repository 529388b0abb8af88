"""The console in a real browser: the delay of a change, its cost there, its memory, and very large boards.

All times are the page's own, but for the load itself. Tasks are those that the browser reports as long ones:
50 ms or more by the clock, so a busy machine lengthens them.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import wraps
from itertools import islice
from secrets import token_hex
from time import monotonic, perf_counter
from typing import Any

from playwright.async_api import Browser, BrowserContext, CDPSession, Page
from playwright.async_api import Error as BrowserError

from benchmarks.chromium import open_browser
from benchmarks.data import open_step
from benchmarks.http_client import MAX_BATCH, HttpClient, connect_http
from benchmarks.load import Result, Run, Site, WrongResult, summary_ms
from benchmarks.workload import Conveyor
from tracking_shared.contracts.timestamps import format_time, now

OPEN_ORDERS = 5_000
CLOSED_ORDERS = 5_000
"""As many as the page keeps of those that closed while it was open: then its memory should be flat."""

WARM_UP_SECONDS = 25.0
"""By then the page has taken as many measures of its own as it keeps."""

PATIENCE_SECONDS = 180.0
"""A busy machine is measured, too."""

BOARDS = 4
BOARD_FIGURES = 6

DESK: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
SLOWER = 4
"""Divides the speed of this processor, for a phone."""

WATCH = """
  if (location.protocol.startsWith('http')) sessionStorage['tracking.token'] = 'TOKEN';
  window.longTasks = [];
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) window.longTasks.push(duration);
  }).observe({ type: "longtask", buffered: true });
"""
LIVE = "document.querySelector('#connection')?.dataset.state === 'live'"
COUNTED = "/[0-9]/.test(document.querySelector('[data-testid=count-NAME] .chip-count')?.textContent)"
FIRST_VIEW = "performance.getEntriesByName('first-useful-view')[0].startTime"


class Load:
    """Open orders that move. Their number stays: of each batch of changes one creates an order."""

    def __init__(self, client: HttpClient, batch: int, per_second: int) -> None:
        self.changes = Conveyor(token_hex(4), format_time(now()), of=batch)
        self.sent = 0
        self._client = client
        self._batch = batch
        self._per_second = per_second

    async def fill(self) -> None:
        """Creates the open orders, as many in each status as a steady stream leaves there."""
        steps = list(islice(self.changes.orders, OPEN_ORDERS))
        for version in range(1, 5):
            moved = [replace(step, version=version) for n, step in enumerate(steps) if n % 4 >= version - 1]
            await self._client.send_batch(moved)
        self.changes.open.extend(replace(step, version=1 + n % 4) for n, step in enumerate(steps))

    async def close(self, number: int) -> None:
        """Brings so many to their end, as fast as possible."""
        for _ in range(0, number * self._batch, MAX_BATCH):
            await self._send(MAX_BATCH)

    async def flow(self, seconds: float) -> float:
        """Changes at the steady pace for so long; returns the time that it took."""
        started = perf_counter()
        for turn in range(int(seconds * self._per_second / self._batch)):
            await self._send(self._batch)
            due = started + (turn + 1) * self._batch / self._per_second
            await asyncio.sleep(max(0.0, due - perf_counter()))
        return perf_counter() - started

    async def _send(self, number: int) -> None:
        await self._client.send_batch(self.changes.next_batch(number))
        self.sent += number


@dataclass
class Scene:
    """A browser, and the load that moves the orders in it."""

    site: Site
    browser: Browser
    load: Load

    async def context(self, device: dict[str, Any]) -> BrowserContext:
        """A browser's profile on this device, signed in."""
        context = await self.browser.new_context(**device, locale="en-GB")
        await context.add_init_script(WATCH.replace("TOKEN", self.site.token()))
        return context

    async def page(self, device: dict[str, Any], slower: int = 1) -> Page:
        """An empty page on this device."""
        page = await (await self.context(device)).new_page()
        if slower > 1:
            session = await page.context.new_cdp_session(page)
            await session.send("Emulation.setCPUThrottlingRate", {"rate": slower})
        return page

    async def session(self, page: Page) -> CDPSession:
        """The browser's own view of a page that is loaded."""
        session = await page.context.new_cdp_session(page)
        await session.send("Performance.enable")
        return session

    async def open(self, page: Page, name: str = "") -> float:
        """Loads the console; returns the seconds of the page until it shows the count of `name`."""
        await page.goto(self.site.console)
        if name != "delivered":
            await _until(page, LIVE)
        if name:
            await _until(page, COUNTED.replace("NAME", name))
        return float(await page.evaluate("performance.now()")) / 1000


async def _until(page: Page, expression: str) -> None:
    """Returns when it is true in the page. The page's policy forbids Playwright's own way to wait."""
    deadline = monotonic() + PATIENCE_SECONDS
    while not await page.evaluate(expression):
        if monotonic() > deadline:
            raise WrongResult(f"after {PATIENCE_SECONDS:.0f} s the page does not show: {expression}")
        await asyncio.sleep(0.05)


@asynccontextmanager
async def _scene(site: Site, batch: int, per_second: int) -> AsyncIterator[Scene]:
    client = await connect_http(site.ingest, site.token())
    async with open_browser("--enable-precise-memory-info") as browser:
        yield Scene(site, browser, Load(client, batch, per_second))


def _guarded(run: Run) -> Run:
    """The same, where an error of the browser is a wrong result."""

    @wraps(run)
    async def guarded() -> Result:
        try:
            return await run()
        except BrowserError as error:
            raise WrongResult(f"the browser: {error.message.splitlines()[0]}") from None

    return guarded


Small = Callable[[Scene, Page, CDPSession, Any], Awaitable[Result]]
Large = Callable[[Scene, float], Awaitable[Result]]


def _on_small_board(figure: Small) -> Callable[..., AsyncIterator[Run]]:
    """A load: the page with 5,000 open orders, 50 changes a second; `samples` or `seconds` of it."""

    async def prepare(site: Site, samples: int = 0, seconds: float = 0) -> AsyncIterator[Run]:
        async with _scene(site, batch=5, per_second=50) as scene:
            await scene.load.fill()
            page = await scene.page(DESK)
            await scene.open(page)
            session = await scene.session(page)
            yield _guarded(lambda: figure(scene, page, session, samples or seconds))

    return prepare


def _on_large_board(figure: Large) -> Callable[..., AsyncIterator[Run]]:
    """A load: an empty browser, 60 changes a second of a stack with very many open orders."""

    async def prepare(site: Site, board_orders: int, seconds: float, part: int) -> AsyncIterator[Run]:
        async with _scene(site, batch=6, per_second=60) as scene:
            # Each figure begins at orders that no figure before it moved: their moves would be refused.
            first = part * board_orders // BOARD_FIGURES
            orders = range(first, first + board_orders // BOARD_FIGURES)
            scene.load.changes.open.extend(map(open_step, orders))
            yield _guarded(lambda: figure(scene, seconds))

    return prepare


# The figures of the small board


@_on_small_board
async def pixel(scene: Scene, page: Page, _session: CDPSession, samples: int) -> Result:
    """One update at a time, sent by the page itself: from its POST to the frame that shows it."""
    started = perf_counter()
    times = await page.evaluate(POST_TO_PIXEL, [scene.site.ingest, scene.site.token(), samples + 10])
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


@_on_small_board
async def thread(scene: Scene, _page: Page, session: CDPSession, seconds: float) -> Result:
    """The work of the main thread for an event of a steady stream, timers and ticking ages included."""
    await scene.load.flow(2)
    before, sent = await _metrics(session), scene.load.sent
    elapsed = await scene.load.flow(seconds)
    after, events = await _metrics(session), scene.load.sent - sent
    parts = {"task": "Task", "script": "Script", "style": "RecalcStyle", "layout": "Layout"}
    grown = {name: after[f"{metric}Duration"] - before[f"{metric}Duration"] for name, metric in parts.items()}
    return {"events": events, "seconds": elapsed} | {f"{n}_us": s / events * 1e6 for n, s in grown.items()}


@_on_small_board
async def memory(scene: Scene, _page: Page, session: CDPSession, seconds: float) -> Result:
    """The growth of the scripts' heap while the stream goes on, garbage collected at both ends."""
    await scene.load.close(CLOSED_ORDERS)
    await scene.load.flow(WARM_UP_SECONDS)
    before, sent = await _heap_mb(session), scene.load.sent
    elapsed = await scene.load.flow(seconds)
    after, events = await _heap_mb(session), scene.load.sent - sent
    return {"events": events, "seconds": elapsed, "heap_mb": after, "growth_mb": max(0.0, after - before)}


@_on_small_board
async def view(scene: Scene, page: Page, _session: CDPSession, samples: int) -> Result:
    """From the start of a reload to the first orders on the screen."""
    started = perf_counter()
    times = []
    for _ in range(samples):
        await scene.open(page)
        times.append(await page.evaluate(FIRST_VIEW) / 1000)
    return {"samples": len(times), "seconds": perf_counter() - started, **summary_ms(times)}


@_on_small_board
async def weight(scene: Scene, page: Page, session: CDPSession, _: Any) -> Result:
    """The bytes of the page over the wire, heads and configuration included, nothing of it cached."""
    started = perf_counter()
    await session.send("Network.enable")
    await session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    urls: dict[str, str] = {}
    received: dict[str, float] = {}
    session.on("Network.requestWillBeSent", lambda e: urls.update({e["requestId"]: e["request"]["url"]}))
    session.on("Network.loadingFinished", lambda e: received.update({e["requestId"]: e["encodedDataLength"]}))
    await scene.open(page)
    weights = [size for request, size in received.items() if urls[request].startswith(scene.site.console)]
    return {"files": len(weights), "seconds": perf_counter() - started, "weight_kb": sum(weights) / 1000}


async def _metrics(session: CDPSession) -> dict[str, float]:
    answer = await session.send("Performance.getMetrics")
    return {metric["name"]: metric["value"] for metric in answer["metrics"]}


async def _heap_mb(session: CDPSession) -> float:
    for _ in range(2):  # the first collection lets go of more
        await session.send("HeapProfiler.collectGarbage")
    return (await _metrics(session))["JSHeapUsedSize"] / 1e6


# The figures of large boards


@_on_large_board
async def board_today(scene: Scene, _seconds: float) -> Result:
    """Seconds until the last of four boards shows the figures of today."""
    context = await scene.context(DESK)
    pages = [await context.new_page() for _ in range(BOARDS)]
    await asyncio.gather(*(scene.open(page, "open") for page in pages))  # all is read from the disk once
    await asyncio.gather(*(page.close() for page in pages))
    pages = [await context.new_page() for _ in range(BOARDS)]
    seconds = await asyncio.gather(*(scene.open(page, "delivered") for page in pages))
    return {"boards": BOARDS, "seconds": max(seconds)}


@_on_large_board
async def board_shown(scene: Scene, _seconds: float) -> Result:
    """Seconds of the page until all orders are counted."""
    page = await scene.page(DESK)
    shown = await scene.open(page, "open")
    return {
        "orders": await _rows(page),
        "seconds": shown,
        "shown_s": shown,
        "longest_ms": await _longest(page),
    }


@_on_large_board
async def board_memory(scene: Scene, seconds: float) -> Result:
    """The scripts' heap after the changes."""
    page = await scene.page(DESK)
    shown = await scene.open(page, "open")
    await scene.load.flow(seconds)
    heap = await _heap_mb(await scene.session(page))
    return {"orders": await _rows(page), "seconds": shown, "heap_mb": heap}


@_on_large_board
async def board_task(scene: Scene, seconds: float) -> Result:
    """The long tasks during the changes."""
    page = await scene.page(DESK)
    return await _long_tasks(scene, page, seconds)


@_on_large_board
async def board_phone(scene: Scene, _seconds: float) -> Result:
    """Seconds until a phone shows the first orders."""
    page = await scene.page(PHONE, SLOWER)
    shown = await scene.open(page, "open")
    row = await page.evaluate(FIRST_VIEW) / 1000
    return {"seconds": shown, "row_s": row, "longest_ms": await _longest(page)}


@_on_large_board
async def board_phone_task(scene: Scene, seconds: float) -> Result:
    """The long tasks of a phone during the changes."""
    page = await scene.page(PHONE, SLOWER)
    return await _long_tasks(scene, page, seconds)


async def _long_tasks(scene: Scene, page: Page, seconds: float) -> Result:
    await scene.open(page, "open")
    await page.evaluate("window.longTasks.length = 0")
    await scene.load.flow(seconds)
    tasks = await page.evaluate("window.longTasks.length")
    return {"seconds": seconds, "long_tasks": tasks, "longest_ms": await _longest(page)}


async def _longest(page: Page) -> float:
    """The longest task in ms; 0 where none took 50 ms."""
    return float(await page.evaluate("Math.max(0, ...window.longTasks)"))


async def _rows(page: Page) -> int:
    return int(await page.get_by_test_id("board").get_attribute("aria-rowcount") or 1) - 1
