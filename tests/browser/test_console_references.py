"""Orders with a merchant's own numbers in a real browser: shown, searched, created and followed by them."""

from urllib.parse import quote

from desk import PHONE, Desk, creation, is_live, new_merchant, row_of, update
from playwright.async_api import expect

from callers import token
from tracking_shared.contracts.references import referenced_order_id

NASTY = "<img src=x onerror=alert(1)>/#1"


def referenced(merchant: str, reference: str) -> dict[str, object]:
    """The creation of an order by its reference alone."""
    operation = creation(reference, merchant, reference=reference)
    del operation["order_id"]
    return operation


async def test_an_order_is_shown_by_its_reference_wherever_it_is_named(desk: Desk) -> None:
    merchant = new_merchant()
    order_id = referenced_order_id(merchant, "WH/OUT/00012")
    await desk.report([referenced(merchant, "WH/OUT/00012"), creation(f"{merchant}-2", merchant)])
    async with desk.page(bearer=token(merchants=[merchant])) as page:
        await is_live(page)
        await expect(row_of(page, order_id)).to_contain_text("WH/OUT/00012")
        await expect(row_of(page, f"{merchant}-2")).to_contain_text(f"{merchant}-2")
        await page.get_by_test_id("search").fill("wh/out/00")
        await expect(row_of(page, f"{merchant}-2")).to_have_count(0)
        await row_of(page, order_id).click()
        await expect(page.get_by_test_id("order-title")).to_have_text("WH/OUT/00012")
        await expect(page).to_have_title("WH/OUT/00012 · Tracking")
        await expect(page.get_by_test_id("order-panel")).to_contain_text(order_id)
        await page.get_by_test_id("action-picked_up").click()
        await page.get_by_test_id("update-send").click()
        await expect(page.get_by_test_id("order-panel")).to_have_attribute("data-status", "picked_up")
        await expect(page.get_by_test_id("order-title")).to_have_text("WH/OUT/00012")


async def test_an_order_is_created_by_its_reference_which_stays_text(desk: Desk) -> None:
    merchant = new_merchant()
    async with desk.page(bearer=token(merchants=[merchant], source_type="operator")) as page:
        await is_live(page)
        await page.get_by_test_id("create").click()
        form = page.get_by_test_id("create-form")
        for name, text in (
            ("merchant_id", merchant),
            ("reference", NASTY),
            ("name", "Ada"),
            ("contact_ref", "1"),
        ):
            await form.locator(f"[name={name}]").fill(text)
        await page.get_by_test_id("create-send").click()
        await expect(page.get_by_test_id("order-title")).to_have_text(NASTY)
        await expect(row_of(page, referenced_order_id(merchant, NASTY))).to_contain_text(NASTY)
        assert await page.locator("img").count() == 0


async def test_a_customer_sees_the_number_of_the_shop(desk: Desk) -> None:
    merchant = new_merchant()
    order_id = referenced_order_id(merchant, "#1001")
    await desk.report([referenced(merchant, "#1001")])
    link = token(
        sub="customer-1", source_type="customer", scope="orders:read", merchants=[], orders=[order_id]
    )
    async with desk.page(f"track.html#order={quote(order_id)}&token={link}", size=PHONE) as page:
        await expect(page.locator("#order-id")).to_have_text("#1001")
        await desk.report([update(order_id, "picked_up")])
        await expect(page.get_by_test_id("track-step")).to_have_count(2)
        await expect(page.locator("#order-id")).to_have_text("#1001")
