"""An operations desk: a stack that serves the console, a browser in front of it, and traffic to look at."""

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson
from aiohttp import ClientSession
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    Request,
    ViewportSize,
    WebSocket,
    expect,
)

from callers import JWT_SECRET, Caller, eventually, token
from fixtures import PARTITIONS
from forked_services import ForkedService
from tracking.devstack.processes import free_port
from tracking.devstack.service_process import ServiceProcess, console_settings

PATIENCE_SECONDS = 30
"""Two test processes may share two cores, and a browser is a third one."""

WIDE: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
MAX_BATCH = 1000
MAX_PAGE = 500

REPORTED_ANYWAY = ("Failed to load resource", "WebSocket connection to")
"""Chromium writes these to the console of any page whose request was refused or got no answer."""

SIGN_IN = "if (location.protocol === 'http:') sessionStorage['tracking.token'] ??= 'BEARER'"
"""Scripts run in the empty page that a tab begins with, too, which has no storage."""

Scheme = Literal["light", "dark"]
Document = dict[str, Any]

expect.set_options(timeout=PATIENCE_SECONDS * 1000)


@dataclass
class Watch:
    """What happened in the pages of a context that must not."""

    origins: set[str]
    faults: list[str] = field(default_factory=list)

    def over(self, context: BrowserContext) -> None:
        """Watches from now on. Playwright answers dialogs by itself unless somebody listens."""
        context.on("dialog", self._dialog)
        context.on("weberror", lambda error: self.faults.append(f"error: {error.error}"))
        context.on("console", self._console)
        context.on("request", self._request)
        context.on("page", lambda page: page.on("websocket", self._socket))

    def _dialog(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog: {dialog.message}")

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(REPORTED_ANYWAY):
            self.faults.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        self._reached(request.url)

    def _socket(self, socket: WebSocket) -> None:
        self._reached(socket.url)

    def _reached(self, url: str) -> None:
        parts = urlsplit(url)
        if f"{parts.scheme}://{parts.netloc}" not in self.origins:
            self.faults.append(f"left the stack: {url}")


@dataclass
class Desk:
    """The services, somebody who reports to them, and the browser."""

    services: dict[str, ServiceProcess]
    caller: Caller
    browser: Browser
    environment: dict[str, str]
    """Of the services: a test may start another one."""
    logs: Path
    more_origins: frozenset[str] = frozenset()
    """Origins that its pages may reach besides the stack's."""

    @property
    def console(self) -> str:
        return f"{self.services['query'].url}/console/"

    @property
    def origins(self) -> set[str]:
        notifier = urlsplit(self.services["notifier"].stream_url)
        http = {self.services[name].url for name in ("query", "ingest")}
        return http | {f"{scheme}://{notifier.netloc}" for scheme in ("ws", "http")} | self.more_origins

    async def create(self, merchant_id: str, number: int) -> list[str]:
        """New orders of a merchant, in batches; returns their ids."""
        ids = [f"{merchant_id}-{index:04}" for index in range(number)]
        operations = iter([creation(order_id, merchant_id) for order_id in ids])
        while batch := list(islice(operations, MAX_BATCH)):
            await self.report(batch)
        return ids

    async def report(self, operations: Sequence[Document], **claims: Any) -> None:
        """One batch of changes, all of which must be applied."""
        answer = await self.caller.post("/v1/batch", operations, bearer=token(**claims))
        outcomes = Counter(result["outcome"] for result in answer.body["results"])
        assert outcomes == {"applied": len(operations)}, answer.body["results"][0]

    async def get(self, path: str, bearer: str, **parameters: str) -> Document:
        """An answer of query."""
        headers = {"Authorization": f"Bearer {bearer}"}
        url = self.services["query"].url + path
        async with ClientSession(headers=headers) as session, session.get(url, params=parameters) as response:
            answer: Document = orjson.loads(await response.read())
            assert response.status == 200, answer
            return answer

    async def listed(self, bearer: str, **filters: str) -> list[Document]:
        """All orders that the API lists, newest first."""
        found: list[Document] = []
        more: Document = {}
        while True:
            page = await self.get("/v1/orders", bearer, limit=str(MAX_PAGE), **filters, **more)
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            more = {"cursor": page["next_cursor"]}

    @asynccontextmanager
    async def page(
        self,
        address: str = "",
        bearer: str | None = None,
        size: ViewportSize = WIDE,
        scheme: Scheme = "light",
        *,
        locale: str = "en-GB",
        time_zone: str | None = None,
        touch: bool = False,
    ) -> AsyncIterator[Page]:
        """A page of the console, signed in where there is a `bearer`. Nothing may happen in it that `Watch`
        does not allow.
        """
        context = await self.browser.new_context(
            viewport=size,
            color_scheme=scheme,
            locale=locale,
            timezone_id=time_zone,
            reduced_motion="reduce",
            has_touch=touch,
            is_mobile=touch,
        )
        context.set_default_timeout(PATIENCE_SECONDS * 1000)
        watch = Watch(self.origins)
        watch.over(context)
        if bearer is not None:
            await context.add_init_script(SIGN_IN.replace("BEARER", bearer))
        try:
            page = await context.new_page()
            await page.goto(self.console + address)
            yield page
            assert watch.faults == [], watch.faults
        finally:
            await context.close()


@asynccontextmanager
async def open_desk(
    environment: dict[str, str],
    logs: Path,
    browser: Browser,
    *,
    query_port: int | None = None,
    more_origins: frozenset[str] = frozenset(),
) -> AsyncIterator[Desk]:
    """A stack on an empty virtual host and database, as `tracking up` would set its services up."""
    ports = {name: free_port() for name in ("order-state", "ingest", "query", "notifier")}
    ports["query"] = query_port or ports["query"]
    common = {
        "PARTITIONS": str(PARTITIONS),
        "RATE_LIMIT_PER_SECOND": "0",
        "WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8",
    }
    shared = environment | common | console_settings(ports, JWT_SECRET, signed_in=False)
    async with AsyncExitStack() as opened:
        services = {}
        for name, port in ports.items():
            module = name.replace("-", "_")
            service = ForkedService(module, environment=shared, logs=logs, port=port, name=name)
            opened.push_async_callback(service.stop)
            service.launch()
            services[name] = service
        await asyncio.gather(*(service.start() for service in services.values()))
        caller = await opened.enter_async_context(Caller([services["ingest"].url]))
        yield Desk(services, caller, browser, shared, logs, more_origins)


def creation(order_id: str, merchant_id: str, **more: Any) -> Document:
    """A new order, as an operation of a batch."""
    customer = {"name": f"Customer of {order_id}", "contact_ref": f"crm-{order_id}"}
    return {"op": "create", "order_id": order_id, "merchant_id": merchant_id, "customer": customer} | more


def update(order_id: str, status: str, **more: Any) -> Document:
    """A change of an order, as an operation of a batch."""
    return {"op": "update", "order_id": order_id, "status": status} | more


def checkpoint(order_id: str, kind: str, **more: Any) -> Document:
    """Something besides the steps of an order, as an operation of a batch."""
    return {"op": "checkpoint", "order_id": order_id, "kind": kind} | more


def correction(order_id: str, status: str, reason: str) -> Document:
    """A correction of an order, as an operation of a batch."""
    return {"op": "correct", "order_id": order_id, "status": status, "reason": reason}


def new_merchant() -> str:
    """A merchant of a test's own: with a token for it alone, the rest of the stack is not there."""
    return f"m-{secrets.token_hex(4)}"


class Traffic:
    """Orders of a merchant that move: of five changes one creates, and the others take orders on."""

    BATCH = 5

    def __init__(self, desk: Desk, merchant_id: str, order_ids: Sequence[str], seed: int = 7) -> None:
        self.sent = 0
        self._desk = desk
        self._merchant_id = merchant_id
        chance = Random(seed)
        self._open = deque((order_id, "created") for order_id in chance.sample(order_ids, len(order_ids)))
        self._new = (f"{merchant_id}-new-{number}" for number in count())
        self._moves = self._endless_moves(chance)

    @asynccontextmanager
    async def flowing(self, per_second: float) -> AsyncIterator[None]:
        """So many changes a second while the body runs."""
        stopping = asyncio.Event()
        task = asyncio.create_task(self._flow(self.BATCH / per_second, stopping))
        try:
            yield
        finally:
            stopping.set()
            await task

    async def _flow(self, interval: float, stopping: asyncio.Event) -> None:
        next_turn = monotonic()
        while not stopping.is_set():
            await self.send(self.BATCH)
            next_turn += interval
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, next_turn - monotonic())):
                    await stopping.wait()

    async def send(self, number: int) -> None:
        """So many changes at once, no order twice."""
        await self._desk.report(list(islice(self._moves, number)))
        self.sent += number

    def _endless_moves(self, chance: Random) -> Iterator[Document]:
        following = {
            "created": ("picked_up",),
            "picked_up": ("in_transit",),
            "in_transit": ("in_transit", "delivered"),
        }
        for number in count():
            if number % self.BATCH == 0:
                order_id, status = next(self._new), "created"
                yield creation(order_id, self._merchant_id)
            else:
                order_id, before = self._open.popleft()
                status = chance.choice(following[before])
                yield update(order_id, status)
            if status != "delivered":
                self._open.append((order_id, status))


# What is on the board


ROWS = """() => {
  const viewport = document.querySelector(".viewport");
  if (!viewport) return []; // the page is still loading
  const view = viewport.getBoundingClientRect();
  return [...document.querySelectorAll("[data-testid=board-row]:not([hidden])")].map((row) => ({
    index: Number(row.getAttribute("aria-rowindex")) - 2,
    order_id: row.dataset.orderId,
    status: row.dataset.status,
    version: Number(row.dataset.version),
    top: Math.round(row.getBoundingClientRect().top - view.top),
    height: Math.round(row.getBoundingClientRect().height),
  })).sort((a, b) => a.index - b.index);
}"""

SCROLL = """async (top) => {
  document.querySelector(".viewport").scrollTop = top;
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
}"""


async def rows(page: Page) -> list[Document]:
    """The rows in the page, with their place in the whole list, and in the view."""
    found: list[Document] = await page.evaluate(ROWS)
    return found


ROW = "[data-testid=board-row]:not([hidden])"
"""Rows that went out of view wait in the page, hidden, for the next ones."""


def first_row(page: Page) -> Locator:
    """One of the rows in the page."""
    return page.locator(ROW).first


def row_of(page: Page, order_id: str) -> Locator:
    """The row of an order, if it is in the page."""
    return page.locator(f"{ROW}[data-order-id='{order_id}']")


async def scroll_to(page: Page, top: float) -> None:
    """Scrolls the board, and returns when that has been drawn."""
    await page.evaluate(SCROLL, top)


async def is_live(page: Page) -> None:
    """Returns when the page says that it is live."""
    await expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "live")


async def shows_as_listed(page: Page, desk: Desk, bearer: str, looks: int = 8) -> None:
    """Returns when the board is what the API lists: counts by status, and the rows at some places."""
    await page.mouse.move(5, 5)  # nobody reads: everything takes its place

    async def differs_nowhere() -> bool:
        await scroll_to(page, 0)
        orders = await desk.listed(bearer, active="true")
        counts = dict(Counter(order["status"] for order in orders)) | {"open": len(orders)}
        if await counts_shown(page, counts) != counts:
            return False
        return await _rows_are(page, orders, looks)

    await eventually(differs_nowhere)


async def counts_shown(page: Page, names: Iterable[str]) -> dict[str, int]:
    """The numbers beside these statuses."""
    numbers: dict[str, int] = await page.evaluate(
        """(names) => Object.fromEntries(names.map((name) => {
          const chip = document.querySelector(`[data-testid="count-${name}"] .chip-count`);
          return [name, Number(chip?.textContent.replaceAll(",", ""))];
        }))""",
        list(names),
    )
    return numbers


async def _rows_are(page: Page, orders: Sequence[Document], looks: int) -> bool:
    if await page.get_by_test_id("board").get_attribute("aria-rowcount") != str(len(orders) + 1):
        return False
    height = (await rows(page))[0]["height"]
    for look in range(looks):
        await scroll_to(page, height * len(orders) * look / max(1, looks - 1))
        for row in await rows(page):
            order = orders[row["index"]]
            if any(row[name] != order[name] for name in ("order_id", "status", "version")):
                return False
    await scroll_to(page, 0)
    return True
