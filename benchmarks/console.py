"""The console in a real browser: the delay of a change, its cost there, its memory, and very large boards.

All times are the page's own, but for the load itself. Tasks are those that the browser reports as long ones:
50 ms or more by the clock, so a busy machine lengthens them. On large boards they
do not wait for the processors that the stack takes, which a desk or a phone does not share.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import islice
from time import monotonic, perf_counter
from typing import Any

from playwright.async_api import CDPSession, Page

from benchmarks.chromium import open_browser
from benchmarks.data import open_step
from benchmarks.http_client import MAX_BATCH, HttpClient, connect_http
from benchmarks.load import BenchmarkFailed, Result, Run, Site, summary_ms
from benchmarks.processes import giving_way
from benchmarks.workload import Conveyor

OPEN_ORDERS = 5_000
CLOSED_ORDERS = 5_000
"""As many as the page keeps of those that closed while it was open: then its memory should be flat."""

WARM_UP_SECONDS = 25.0
"""By then the page has taken as many measures of its own as it keeps."""

PATIENCE_SECONDS = 180.0
"""A busy machine is measured, too."""

BOARDS = 4
BATCHES_PER_SECOND = 10

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
FIRST_MARK = "first-useful-view"
FIRST_VIEW = f"performance.getEntriesByName('{FIRST_MARK}')[0].startTime"
LONGEST = "Math.max(0, ...window.longTasks)"


@dataclass
class Scene:
    """Open orders that move. Their number stays: of each batch one change creates an order."""

    site: Site
    client: HttpClient
    changes: Conveyor
    batch: int

    async def fill(self) -> None:
        """Creates the open orders, as many in each status as a steady stream leaves there."""
        steps = list(islice(self.changes.orders, OPEN_ORDERS))
        for version in range(1, 5):
            moved = [replace(step, version=version) for n, step in enumerate(steps) if n % 4 >= version - 1]
            await self.client.send_batch(moved)
        self.changes.open.extend(replace(step, version=1 + n % 4) for n, step in enumerate(steps))

    async def send(self, number: int) -> None:
        """So many changes, as fast as possible."""
        await self.client.send_batch(self.changes.next_batch(number))

    async def flow(self, seconds: float) -> Result:
        """Changes at the steady pace for so long: their number, and the time that they took."""
        started, turns = perf_counter(), int(seconds * BATCHES_PER_SECOND)
        for turn in range(turns):
            await self.send(self.batch)
            due = started + (turn + 1) / BATCHES_PER_SECOND
            await asyncio.sleep(max(0.0, due - perf_counter()))
        return {"events": turns * self.batch, "seconds": perf_counter() - started}

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
            raise BenchmarkFailed(f"after {PATIENCE_SECONDS:.0f} s the page does not show: {expression}")
        await asyncio.sleep(0.05)


async def board(
    site: Site,
    figure: str,
    *,
    samples: int = 0,
    views: int = 0,
    seconds: float = 0,
    board_orders: int = 0,
    part: int = 0,
    parts: int = 1,
) -> AsyncIterator[Run]:
    """The page with 5,000 open orders and 50 changes a second; or an empty one for `board_orders`, and 60."""
    client = await connect_http(site.ingest, site.token())
    batch, device = (6 if board_orders else 5), (PHONE if "phone" in figure else DESK)
    async with open_browser("--enable-precise-memory-info") as browser:
        scene = Scene(site, client, Conveyor(of=batch), batch)
        context = await browser.new_context(**device, locale="en-GB")
        await context.add_init_script(WATCH.replace("TOKEN", site.token()))
        page = await context.new_page()
        session = await context.new_cdp_session(page)
        if device is PHONE:
            await session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
        if board_orders:
            # Each figure begins at orders that no figure before it moved: their moves would be refused.
            first, number = part * board_orders // parts, board_orders // parts
            scene.changes.open.extend(map(open_step, range(first, first + number)))
        else:
            await scene.fill()
            await scene.open(page)
        yield lambda: FIGURES[figure](scene, page, session, samples or views or seconds)


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


async def thread(scene: Scene, _page: Page, session: CDPSession, seconds: float) -> Result:
    """The work of the main thread for an event of a steady stream, timers and ticking ages included."""
    await scene.flow(2)
    before = await _metrics(session)
    flow = await scene.flow(seconds)
    after = await _metrics(session)
    parts = {"task_us": "Task", "script_us": "Script", "style_us": "RecalcStyle", "layout_us": "Layout"}
    grown = {name: after[f"{metric}Duration"] - before[f"{metric}Duration"] for name, metric in parts.items()}
    return flow | {name: seconds / flow["events"] * 1e6 for name, seconds in grown.items()}


async def memory(scene: Scene, _page: Page, session: CDPSession, seconds: float) -> Result:
    """The growth of the scripts' heap while the stream goes on, garbage collected at both ends."""
    for _ in range(0, CLOSED_ORDERS * scene.batch, MAX_BATCH):
        await scene.send(MAX_BATCH)
    await scene.flow(WARM_UP_SECONDS)
    before = await _heap_mb(session)
    flow = await scene.flow(seconds)
    after = await _heap_mb(session)
    return flow | {"heap_mb": after, "growth_mb": max(0.0, after - before)}


async def view(scene: Scene, page: Page, _session: CDPSession, views: int) -> Result:
    """From the start of a reload to the first orders on the screen."""
    started = perf_counter()
    times = []
    for _ in range(views):
        await scene.open(page)
        times.append(await page.evaluate(FIRST_VIEW) / 1000)
    return {"samples": len(times), "seconds": perf_counter() - started, **summary_ms(times)}


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
    await session.send("Performance.enable")
    answer = await session.send("Performance.getMetrics")
    return {metric["name"]: metric["value"] for metric in answer["metrics"]}


async def _heap_mb(session: CDPSession) -> float:
    for _ in range(2):  # the first collection lets go of more
        await session.send("HeapProfiler.collectGarbage")
    return (await _metrics(session))["JSHeapUsedSize"] / 1e6


async def today(scene: Scene, page: Page, _session: CDPSession, _: float) -> Result:
    """Seconds until the last of four boards shows the figures of today."""
    seconds: list[float] = []
    for name in ("open", "delivered"):  # first, all is read from the disk once
        pages = [await page.context.new_page() for _ in range(BOARDS)]
        seconds = await asyncio.gather(*(scene.open(page, name) for page in pages))
        await asyncio.gather(*(page.close() for page in pages))
    return {"boards": BOARDS, "seconds": max(seconds)}


async def shown(scene: Scene, page: Page, _session: CDPSession, _: float) -> Result:
    """Seconds of the page until it shows the first orders, and until it is live and counts all of them."""
    await scene.open(page, "open")
    await _until(page, f"performance.getEntriesByName('{FIRST_MARK}').length")
    seconds = float(await page.evaluate("performance.now()")) / 1000
    counted = await page.get_by_test_id("count-open").locator(".chip-count").text_content() or ""
    orders = int(counted.replace(",", ""))
    row, longest = await page.evaluate(FIRST_VIEW) / 1000, float(await page.evaluate(LONGEST))
    return {"orders": orders, "seconds": seconds, "row_s": row, "shown_s": seconds, "longest_ms": longest}


async def large_memory(scene: Scene, page: Page, session: CDPSession, seconds: float) -> Result:
    """The scripts' heap after the changes."""
    result = await shown(scene, page, session, seconds)
    await scene.flow(seconds)
    return result | {"heap_mb": await _heap_mb(session)}


async def long_tasks(scene: Scene, page: Page, _session: CDPSession, seconds: float) -> Result:
    """The long tasks during the changes."""
    await scene.open(page, "open")
    await page.evaluate("window.longTasks.length = 0")
    with giving_way(scene.site.pids.values()):
        flow = await scene.flow(seconds)
    tasks = await page.evaluate("window.longTasks.length")
    return flow | {"long_tasks": tasks, "longest_ms": float(await page.evaluate(LONGEST))}


FIGURES: dict[str, Callable[[Scene, Page, CDPSession, Any], Awaitable[Result]]] = {
    "console-pixel": pixel,
    "console-thread": thread,
    "console-memory": memory,
    "console-view": view,
    "console-weight": weight,
    "board-today": today,
    "board-shown": shown,
    "board-memory": large_memory,
    "board-task": long_tasks,
    "board-phone": shown,
    "board-phone-task": long_tasks,
}
