"""The page speaks one language, whatever languages its reader's browser asks for."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from desk import PHONE, Desk, creation, is_live, new_merchant, row_of, update
from playwright.async_api import Page, expect

from callers import token

KOLKATA = "Asia/Kolkata"
"""Far from the time zone of any machine that runs this, and half an hour off the others."""


async def all_text(page: Page) -> str:
    """What a person sees of the page, the tips too."""
    text: str = await page.evaluate(
        """() => [document.body.innerText,
                 ...[...document.querySelectorAll("[title]")].map((element) => element.title)].join(" ")"""
    )
    return text


def is_english(text: str) -> bool:
    """No digits of other scripts, no other alphabet, no clock of twelve hours."""
    return re.search(r"[\u0590-\u08ff\u0900-\u0dff]|\b\d\d?:\d\d(:\d\d)? ?[AaPp]\.?[Mm]", text) is None


@pytest.mark.parametrize("locale", ["de-DE", "ar-EG", "en-US"])
async def test_words_times_and_figures_are_english_in_every_browser(desk: Desk, locale: str) -> None:
    merchant = new_merchant()
    order_id, bearer = f"{merchant}-1", token(merchants=[merchant])
    await desk.report([creation(order_id, merchant)])
    await desk.report([update(order_id, "picked_up")])
    created = datetime.fromisoformat((await desk.get(f"/v1/orders/{order_id}", bearer))["created_at"])
    local = created.astimezone(ZoneInfo(KOLKATA))
    async with desk.page(f"?order={order_id}", bearer, locale=locale, time_zone=KOLKATA) as page:
        await is_live(page)
        await expect(row_of(page, order_id)).to_be_visible()
        await expect(page.get_by_test_id("step")).to_have_count(2)
        await expect(page.get_by_test_id("order-status")).to_contain_text(re.compile("now|seconds? ago"))
        text = await all_text(page)
        assert f"{local:%H:%M:%S}" in text
        assert re.search(rf"{local.day} {local:%b}\w? {local:%Y}, {local:%H:%M:%S}\.\d{{3}} GMT\+5:30", text)
        assert is_english(text)
        await page.goto(f"{desk.console}?view=overview")
        await expect(page.get_by_test_id("legs").locator("li").first).to_be_visible()
        assert is_english(await all_text(page))
    narrowed = token(scope="orders:read", merchants=[], orders=[order_id], source_type="customer")
    address = f"track.html#order={order_id}&token={narrowed}"
    async with desk.page(address, size=PHONE, locale=locale, time_zone=KOLKATA) as page:
        await expect(page.get_by_test_id("track-step")).to_have_count(2)
        text = await all_text(page)
        assert is_english(text)
        assert f"{local:%H:%M}" in text
