"""The console's page of webhooks, with a sender and a receiver."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from desk import PHONE, WIDE, Desk, Scheme, creation, is_live, new_merchant, update
from playwright.async_api import Page, ViewportSize, expect
from test_console_pages import barriers

from callers import eventually, token
from forked_services import ForkedService

SCOPE = "orders:read webhooks:manage"
UNKNOWN = "\N{EN DASH}"


@pytest.fixture(scope="module")
async def sender(desk: Desk) -> AsyncIterator[None]:
    """The service that sends."""
    service = ForkedService("webhooks", environment=desk.environment, logs=desk.logs, name="webhooks")
    service.launch()
    try:
        await service.start()
        yield
    finally:
        await service.stop()


@asynccontextmanager
async def receiver(received: list[str], status: Callable[[], int] = lambda: 204) -> AsyncIterator[str]:
    """A server that notes the ids of deliveries, and its address."""

    async def take(request: web.Request) -> web.Response:
        received.append(request.headers["webhook-id"])
        return web.Response(status=status())

    app = web.Application()
    app.router.add_post("/in", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/in"
    finally:
        await runner.cleanup()


def manager(merchant: str) -> str:
    return token(merchants=[merchant], sub=f"shop-{merchant}", scope=SCOPE)


async def created(page: Page, desk: Desk, url: str, description: str = "Shop") -> str:
    """Creates a webhook by the form and returns the secret that is shown."""
    await page.goto(f"{desk.console}?view=webhooks")
    await page.get_by_test_id("webhook-new").click()
    dialog = page.get_by_test_id("webhook-dialog")
    await dialog.locator("[name=url]").fill(url)
    await dialog.locator("[name=description]").fill(description)
    await page.get_by_test_id("webhook-send").click()
    secret = await page.get_by_test_id("webhook-secret").input_value()
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    return secret


async def test_a_webhook_is_created_tested_replayed_and_deleted(desk: Desk, sender: None) -> None:
    merchant, received = new_merchant(), list[str]()
    began = datetime.now(UTC)
    await desk.report([creation(f"{merchant}-1", merchant)])
    bearer = manager(merchant)
    async with receiver(received) as url, desk.page(bearer=bearer) as page:
        await is_live(page)
        await page.get_by_test_id("to-webhooks").click()
        await expect(page).to_have_title("Webhooks · Tracking")
        await expect(page.get_by_test_id("webhooks-empty")).to_be_visible()
        secret = await created(page, desk, url)
        assert re.fullmatch(r"whsec_[A-Za-z0-9+/]+=*", secret)
        assert secret not in await page.content()
        await expect(page.get_by_test_id("webhook-state")).to_have_text("Active")
        await expect(page.get_by_test_id("webhook-row")).to_contain_text(f"Last attempt {UNKNOWN}")

        await page.get_by_test_id("webhook-test-send").click()
        await expect(page.get_by_test_id("webhook-test")).to_contain_text("Test: Delivered, 204")
        await expect(page.get_by_test_id("webhook-attempt")).to_have_count(1)
        await expect(page.get_by_test_id("webhook-row")).to_contain_text("Delivered, 204")

        await page.get_by_test_id("webhook-replay").click()
        dialog = page.get_by_test_id("webhook-dialog")
        await expect(dialog).to_contain_text("delivered again, in order")
        await dialog.locator("[name=from]").fill((began - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S"))
        await page.get_by_test_id("webhook-send").click()
        await eventually(lambda: _has(received, f"{merchant}-1:1"))

        await page.get_by_test_id("webhook-rotate").click()
        await page.get_by_test_id("webhook-send").click()
        other = await page.get_by_test_id("webhook-secret").input_value()
        assert other != secret
        await page.keyboard.press("Escape")

        await page.get_by_test_id("webhook-delete").click()
        await page.get_by_role("button", name="Keep it").click()
        await expect(page.get_by_test_id("webhook-row")).to_have_count(1)
        await page.get_by_test_id("webhook-delete").click()
        await page.get_by_test_id("webhook-send").click()
        await expect(page.get_by_test_id("webhooks-empty")).to_be_visible()
        assert (await desk.get("/v1/webhooks", bearer))["items"] == []


async def _has(received: list[str], event_id: str) -> bool:
    return event_id in received


async def test_a_webhook_that_is_disabled_says_why_and_is_enabled(desk: Desk, sender: None) -> None:
    merchant, received, answers = new_merchant(), list[str](), [410]
    bearer = manager(merchant)
    async with receiver(received, lambda: answers[0]) as url, desk.page(bearer=bearer) as page:
        await is_live(page)
        await created(page, desk, url)
        await desk.report([creation(f"{merchant}-1", merchant)])
        await eventually(lambda: _has(received, f"{merchant}-1:1"))

        async def is_disabled() -> bool:
            found: list[dict[str, str]] = (await desk.get("/v1/webhooks", bearer))["items"]
            return found[0]["state"] == "disabled"

        await eventually(is_disabled)
        await page.reload()
        await expect(page.get_by_test_id("webhook-state")).to_have_text("Disabled")
        await expect(page.get_by_test_id("webhook-words")).to_contain_text("answered 410")
        await expect(page.get_by_test_id("webhook-attempt")).to_contain_text("Failed, 410")
        await expect(page.get_by_test_id("webhook-pending")).to_have_text("1")
        answers[0] = 204
        await page.get_by_test_id("webhook-enable").click()
        await expect(page.get_by_test_id("webhook-answer")).to_contain_text("goes on where it stood")
        await expect(page.get_by_test_id("webhook-state")).to_have_text("Active")
        await eventually(lambda: _is_delivered(page))
        await expect(page.get_by_test_id("webhook-enable")).to_be_hidden()


async def _is_delivered(page: Page) -> bool:
    text = await page.get_by_test_id("webhook-attempt").first.text_content()
    return text is not None and "Delivered, 204" in text


async def test_a_webhook_is_changed_by_the_keyboard_and_a_refusal_keeps_what_was_typed(desk: Desk) -> None:
    merchant = new_merchant()
    async with desk.page(bearer=manager(merchant)) as page:
        await is_live(page)
        await created(page, desk, "https://shop.example.com/in")
        edit = page.get_by_test_id("webhook-edit")
        await expect(edit).to_be_visible()  # what is hidden takes no focus
        await edit.focus()
        await page.keyboard.press("Enter")
        dialog = page.get_by_test_id("webhook-dialog")
        await dialog.locator("[name=url]").fill("https://10.0.0.1/in")
        await dialog.get_by_label("Delivered", exact=True).focus()
        await page.keyboard.press("Space")
        await page.keyboard.press("Enter")
        await expect(dialog.get_by_test_id("problem")).to_contain_text("/url")
        await dialog.locator("[name=url]").fill("https://shop.example.com/other")
        await page.keyboard.press("Enter")
        await expect(page.get_by_test_id("webhook-url")).to_have_text("https://shop.example.com/other")
        await expect(page.get_by_test_id("webhook-filter")).to_have_text("Delivered")
        await expect(edit).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(page.get_by_test_id("webhook")).to_be_hidden()
        await expect(page.get_by_test_id("webhook-row")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_test_id("webhook-url")).to_be_visible()


async def test_who_may_not_manage_webhooks_sees_none_of_it(desk: Desk) -> None:
    merchant = new_merchant()
    await desk.report([creation(f"{merchant}-1", merchant), update(f"{merchant}-1", "picked_up")])
    async with desk.page("?view=webhooks", token(merchants=[merchant], scope="orders:read")) as page:
        await is_live(page)
        await expect(page.get_by_test_id("to-webhooks")).to_be_hidden()
        await expect(page.get_by_test_id("board")).to_be_visible()
        await expect(page.get_by_test_id("webhooks")).to_have_count(0)


Part = Callable[[Page], Awaitable[None]]


async def _creating(page: Page) -> None:
    await page.get_by_test_id("webhook-new").click()


async def _replaying(page: Page) -> None:
    await page.get_by_test_id("webhook-replay").click()


async def _secret(page: Page) -> None:
    await page.get_by_test_id("webhook-rotate").click()
    await page.get_by_test_id("webhook-send").click()
    await expect(page.get_by_test_id("webhook-secret")).to_be_visible()


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        pytest.param(WIDE, "light", id="wide, light"),
        pytest.param(PHONE, "dark", id="phone, dark"),
        pytest.param(WIDE, "dark", id="wide, dark", marks=pytest.mark.slow),
        pytest.param(PHONE, "light", id="phone, light", marks=pytest.mark.slow),
    ],
)
async def test_the_webhooks_have_no_barrier_that_can_be_found(
    desk: Desk, sender: None, size: ViewportSize, scheme: Scheme
) -> None:
    merchant = new_merchant()
    async with (
        receiver([]) as url,
        desk.page(bearer=manager(merchant), size=size, scheme=scheme) as page,
    ):
        await is_live(page)
        await created(page, desk, url)
        await page.get_by_test_id("webhook-test-send").click()
        await expect(page.get_by_test_id("webhook-attempt")).to_have_count(1)
        assert await barriers(page) == {}
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for part in (_creating, _replaying, _secret):
            if part is _creating and size == PHONE:
                continue  # the list is behind the open webhook
            await part(page)
            assert await barriers(page) == {}, part.__name__
            await page.keyboard.press("Escape")
        await page.get_by_test_id("webhook-close").click()
        await expect(page.get_by_test_id("webhook-row")).to_be_visible()
        assert await barriers(page) == {}
