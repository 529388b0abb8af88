"""Pictures of every view of the console, for the documentation: `python tests/browser/screenshots.py`.

Runs a stack of its own with a simulated fleet, waits until there is something to see, and takes each view
with Debian's Chromium, light and dark, wide and on a phone.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Literal

from aiohttp import ClientSession, web
from PIL import Image
from playwright.async_api import Browser, Page, async_playwright
from rich.text import Text

from tracking.demo import Demo, Totals
from tracking.devstack.stack import StackOptions, run_stack
from tracking.devstack.tokens import mint_token
from tracking.tasks import first_of
from tracking_shared.contracts.references import referenced_order_id

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox"]
"""Chromium has no sandbox for root, which containers usually are; it loads nothing but our own pages."""

IMAGES = Path(__file__).parents[2] / "docs" / "images"

RECEIVER_PORT = 9180
"""Of a receiver of webhooks."""

FLEET_ORDERS_PER_SECOND = 4.0
LIVELY_SECONDS = 75
"""Orders of the fleet live for half a minute: by then there are some in every status."""

COLOURS = 192
"""Enough for flat colours and smooth text; a picture takes a third of what it would."""

WIDE = {"width": 1600, "height": 1000}
PHONE = {"width": 390, "height": 844}

Scheme = Literal["light", "dark"]
Steps = Callable[[Page, "Scene"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scene:
    """What the pictures are taken of."""

    console: str
    token: str
    eventful_order: str
    """One with everything in its timeline."""
    customer_link: str
    late_link: str
    """Of the eventful order's customer."""
    orders: list[dict[str, Any]]
    receivers: dict[str, str]
    """Of webhooks, by their description."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture."""

    name: str
    steps: Steps
    size: dict[str, int]
    scheme: Scheme


async def board(page: Page, scene: Scene) -> None:
    """The board, at rest."""
    await page.goto(scene.console)
    await page.get_by_test_id("board-row").nth(5).wait_for()


async def order(page: Page, scene: Scene) -> None:
    """One order beside the board."""
    await page.goto(f"{scene.console}?order={scene.eventful_order}")
    await page.get_by_test_id("refusal").first.wait_for()


async def overdue(page: Page, scene: Scene) -> None:
    """The board by due time: what is overdue first."""
    await page.goto(f"{scene.console}?sort=due_at")
    await page.get_by_test_id("board-row").nth(5).wait_for()
    await page.locator("[data-due=overdue]").first.wait_for()


async def correction(page: Page, scene: Scene) -> None:
    """The form of a correction."""
    await order(page, scene)
    await page.get_by_test_id("action-correct").click()
    form = page.get_by_test_id("correction-form")
    await form.locator("select").select_option("picked_up")
    await form.locator("[name=reason]").fill("It is still in the depot")


async def checkpoint(page: Page, scene: Scene) -> None:
    """The form of a checkpoint."""
    await order(page, scene)
    await page.get_by_test_id("action-checkpoint").click()
    form = page.get_by_test_id("checkpoint-form")
    await form.locator("[name=kind]").select_option("delayed")
    await form.locator("[name=message]").fill("The road to the island is closed until the afternoon")


async def overview(page: Page, scene: Scene) -> None:
    """The overview, once the charts have something to show."""
    await page.goto(scene.console)
    await page.get_by_test_id("board-row").nth(5).wait_for()
    await page.wait_for_timeout(35_000)
    await page.get_by_test_id("to-overview").click()
    await page.get_by_test_id("refusals").locator("strong").first.wait_for()


async def refused(page: Page, scene: Scene) -> None:
    """An update that is refused, and why."""
    await page.goto(f"{scene.console}?order={scene.orders[0]['order_id']}")
    await page.get_by_test_id("action-other").click()
    form = page.get_by_test_id("update-form")
    await form.locator("select").select_option("created")
    await page.get_by_test_id("update-send").click()
    await page.get_by_test_id("problem").wait_for()


async def reconnecting(page: Page, scene: Scene) -> None:
    """The board while the stream is away."""
    await board(page, scene)
    await page.context.set_offline(True)
    await page.evaluate("window.dispatchEvent(new Event('offline'))")
    await page.get_by_test_id("stale-banner").wait_for()
    await page.wait_for_timeout(5000)


async def customer(page: Page, scene: Scene) -> None:
    """The customer's page."""
    await page.goto(scene.customer_link)
    await page.get_by_test_id("track-step").first.wait_for()


async def customer_late(page: Page, scene: Scene) -> None:
    """The customer's page of an order that nobody took, and that is late."""
    await page.goto(scene.late_link)
    await page.get_by_test_id("track-step").nth(5).wait_for()


async def filters(page: Page, scene: Scene) -> None:
    """The board's filters."""
    await page.goto(f"{scene.console}?active=any&merchant_id=acme-foods&merchant_id=elm-flowers")
    await page.get_by_test_id("board-row").nth(3).wait_for()
    await page.get_by_test_id("filter-button").click()


async def several(page: Page, scene: Scene) -> None:
    """Several orders updated at once, some of them refused."""
    await page.goto(f"{scene.console}?sort=created_at")
    boxes = page.get_by_test_id("row-box")
    await boxes.nth(7).wait_for()
    await boxes.nth(2).click()
    await boxes.nth(7).click(modifiers=["Shift"])
    await page.get_by_test_id("bulk-open").click()
    await page.get_by_test_id("bulk").locator("select").select_option("in_transit")
    await page.get_by_test_id("bulk-send").click()
    await page.get_by_test_id("outcome").first.wait_for()


async def webhooks(page: Page, scene: Scene) -> None:
    """The webhooks: one that delivers, and one whose receiver does not answer."""
    await page.goto(f"{scene.console}?view=webhooks")
    await page.locator(
        "[data-testid=webhook-row], [data-testid=webhooks-empty]:not([hidden])"
    ).first.wait_for()
    if await page.get_by_test_id("webhook-row").count() == 0:
        for description, url in scene.receivers.items():
            await page.goto(f"{scene.console}?view=webhooks")  # a phone shows one of them, or all
            await page.get_by_test_id("webhook-new").click()
            form = page.get_by_test_id("webhook-dialog")
            await form.locator("[name=url]").fill(url)
            await form.locator("[name=description]").fill(description)
            await form.locator("[name=merchant_id]").fill("acme-foods elm-flowers")
            await page.get_by_test_id("webhook-send").click()
            await page.get_by_test_id("webhook-secret").wait_for()
            await page.keyboard.press("Escape")
        await page.wait_for_timeout(20_000)
        await page.reload()
    if await page.evaluate("innerWidth") == PHONE["width"]:
        await page.goto(f"{scene.console}?view=webhooks")
    else:
        await page.get_by_test_id("webhook-row").first.click()
        await page.get_by_test_id("webhook-attempt").nth(3).wait_for()
    await page.get_by_test_id("webhook-row").last.wait_for(state="attached")


async def webhook(page: Page, scene: Scene) -> None:
    """One webhook whose receiver does not answer, on a phone."""
    await webhooks(page, scene)
    await page.get_by_test_id("webhook-row").last.click()
    await page.get_by_test_id("webhook-attempt").first.wait_for()


async def replay(page: Page, scene: Scene) -> None:
    """The form of a replay."""
    await webhooks(page, scene)
    await page.get_by_test_id("webhook-replay").click()
    await page.get_by_test_id("webhook-dialog").locator("[name=from]").fill("2026-11-28T06:00:00")


def shots() -> list[Shot]:
    """Every picture of the documentation."""
    schemes: tuple[Scheme, ...] = ("light", "dark")
    both = [
        _shot(steps, size, scheme)
        for scheme in schemes
        for steps, sizes in (
            (board, ("wide", "phone")),
            (order, ("wide", "phone")),
            (overdue, ("wide", "phone")),
            (overview, ("wide", "phone")),
        )
        for size in sizes
    ]
    return [
        *both,
        *(_shot(steps, "phone", scheme) for steps in (customer, customer_late) for scheme in schemes),
        _shot(correction, "wide", "light"),
        _shot(correction, "phone", "dark"),
        _shot(checkpoint, "wide", "dark"),
        _shot(checkpoint, "phone", "light"),
        *(_shot(steps, "wide", "light") for steps in (refused, filters, several, reconnecting)),
        *(_shot(webhooks, size, scheme) for size in ("wide", "phone") for scheme in schemes),
        *(_shot(webhook, "phone", scheme) for scheme in schemes),
        _shot(replay, "wide", "light"),
    ]


def _shot(steps: Steps, size: str, scheme: Scheme) -> Shot:
    name = steps.__name__.replace("_", "-")
    return Shot(f"{name}-{size}-{scheme}", steps, WIDE if size == "wide" else PHONE, scheme)


@asynccontextmanager
async def opened_page(browser: Browser, shot: Shot, token: str) -> AsyncIterator[Page]:
    """A page as the shot wants it; what goes wrong in it is told."""
    context = await browser.new_context(
        viewport={"width": shot.size["width"], "height": shot.size["height"]},
        color_scheme=shot.scheme,
        locale="en-GB",
        reduced_motion="reduce",
    )
    if token:
        await context.add_init_script(f"sessionStorage['tracking.token'] ??= {token!r}")
    page = await context.new_page()
    page.on(
        "console",
        lambda message: message.type == "error" and sys.stderr.write(f"{shot.name}: {message.text}\n"),
    )
    page.on("pageerror", lambda error: sys.stderr.write(f"{shot.name}: {error}\n"))
    try:
        yield page
    finally:
        await context.close()


async def take(browser: Browser, shot: Shot, scene: Scene, folder: Path) -> None:
    """Takes one picture."""
    async with opened_page(browser, shot, scene.token) as page:
        await shot.steps(page, scene)
        await page.wait_for_timeout(1200)
        picture = Image.open(BytesIO(await page.screenshot())).convert("RGB")
        # By coverage: the few pixels of a status' colour count as much as a background.
        small = picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        small.save(folder / f"{shot.name}.png", optimize=True)


STAGED_MERCHANT = "acme-foods"
STAGED_REFERENCE = "WH/OUT/00012"
STAGED_ORDER = referenced_order_id(STAGED_MERCHANT, STAGED_REFERENCE)


def staged_requests() -> list[tuple[float, str, dict[str, Any]]]:
    """A day with everything, as minutes before now, sender and operation."""
    driver, desk = "driver-a2", "desk"
    customer = {"name": "Ada Abel", "contact_ref": "crm-0117"}
    created = {"op": "create", "merchant_id": STAGED_MERCHANT, "reference": STAGED_REFERENCE}
    attempted = {"op": "checkpoint", "kind": "delivery_attempted", "message": "Nobody at home"}
    delayed = {"op": "checkpoint", "kind": "delayed", "message": "Heavy traffic in the harbour", "eta": 35}
    corrected = {"op": "correct", "status": "in_transit", "reason": "The wrong parcel was scanned"}
    return [
        (190, "shop.acme-foods", created | {"customer": customer, "due_at": -20, "metadata": {"parcels": 2}}),
        (150, driver, {"op": "update", "status": "picked_up"}),
        (96, driver, {"op": "update", "status": "in_transit", "metadata": {"depot": "harbour"}}),
        (64, driver, delayed),
        (52, driver, {"op": "update", "status": "delivered"}),
        (48, driver, {"op": "update", "status": "picked_up"}),
        (41, desk, corrected),
        (12, driver, attempted),
    ]


async def stage(document: dict[str, Any]) -> None:
    """Sends the requests of the staged order."""
    now = datetime.now(UTC)
    async with ClientSession(document["ingest"]) as session:
        for minutes_ago, sender, operation in staged_requests():
            body: dict[str, Any] = {"merchant_id": STAGED_MERCHANT, "reference": STAGED_REFERENCE} | operation
            body["occurred_at"] = (now - timedelta(minutes=minutes_ago)).isoformat()
            for name in {"due_at", "eta"} & body.keys():
                body[name] = (now + timedelta(minutes=body[name])).isoformat()
            token = mint_token(
                document["jwt_secret"],
                subject=sender,
                source_type="driver" if sender.startswith("driver") else "operator",
                scope="orders:write orders:correct",
                merchants=[STAGED_MERCHANT],
            )
            headers = {"Authorization": f"Bearer {token}"}
            async with session.post("/v1/batch", json=[body], headers=headers) as answer:
                assert answer.status == 200, await answer.text()


async def find_scene(browser: Browser, document: dict[str, Any]) -> Scene:
    """Looks for orders that are worth a picture."""
    secret = document["jwt_secret"]
    scope = "orders:read orders:write orders:correct webhooks:manage"
    token = mint_token(secret, subject="ada", source_type="operator", scope=scope, merchants=["*"])
    request = await browser.new_context(extra_http_headers={"Authorization": f"Bearer {token}"})
    try:
        answer = await request.request.get(f"{document['query']}/v1/orders?limit=500")
        orders = (await answer.json())["items"]
        moving = next(order["order_id"] for order in orders if order["status"] == "in_transit")
        open_orders = [order for order in orders if order["status"] == "picked_up"]
    finally:
        await request.close()
    link, late_link = (customer_link(document, order_id) for order_id in (moving, STAGED_ORDER))
    receivers = {
        "Warehouse": "http://127.0.0.1:9/tracking",
        "Shop": f"http://127.0.0.1:{RECEIVER_PORT}/tracking",
    }
    return Scene(document["console"], token, STAGED_ORDER, link, late_link, open_orders, receivers)


def customer_link(document: dict[str, Any], order_id: str) -> str:
    """The page that the customer of an order gets."""
    token = mint_token(
        document["jwt_secret"],
        subject="a-customer",
        source_type="customer",
        scope="orders:read",
        merchants=[],
        orders=[order_id],
    )
    return f"{document['console']}track.html#order={order_id}&token={token}"


class Silent:
    """Nobody looks at the fleet but the browser."""

    def __init__(self) -> None:
        self.totals = Totals()

    def show(self, line: Text) -> None:
        """Shows nothing."""


async def photograph(document: dict[str, Any], folder: Path, names: list[str]) -> None:
    """Takes the pictures of a running stack: all, or those whose names begin so."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for shot in shots():
            if not names or any(shot.name.startswith(name) for name in names):
                await take(browser, shot, await find_scene(browser, document), folder)
                print(shot.name)
        await browser.close()


@asynccontextmanager
async def receiver() -> AsyncIterator[None]:
    """Takes deliveries of webhooks."""

    async def take(request: web.Request) -> web.Response:
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/tracking", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", RECEIVER_PORT).start()
        yield
    finally:
        await runner.cleanup()


async def work(document: dict[str, Any]) -> None:
    """The fleet at work, and after a while the pictures."""

    async def after_a_while() -> None:
        await stage(document)
        await asyncio.sleep(LIVELY_SECONDS)
        await photograph(document, IMAGES, sys.argv[1:])

    async with receiver():
        await first_of(Demo(document, FLEET_ORDERS_PER_SECOND, Silent(), Random(7)).run(), after_a_while())


def main() -> None:
    """Makes the pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    os.environ["WEBHOOK_ALLOW_NETWORKS"] = "127.0.0.0/8"
    with TemporaryDirectory() as folder:
        asyncio.run(run_stack(StackOptions(data=Path(folder), signed_in=True), print, work))


if __name__ == "__main__":
    main()
