"""The board on a phone, which holds no more than the pages that were looked at, and says so."""

import asyncio

from desk import PHONE, Desk, counts_shown, creation, is_live, new_merchant, row_of, rows, scroll_to, update
from playwright.async_api import Page, Route, expect

from callers import eventually, token

ORDERS = 300


async def counts_are(page: Page, wanted: dict[str, int]) -> None:
    """Returns when these are the numbers beside the statuses."""

    async def shown() -> bool:
        return await counts_shown(page, wanted) == wanted

    await eventually(shown)


async def test_a_phone_says_how_much_of_the_list_it_shows_and_is_what_the_api_lists(desk: Desk) -> None:
    merchant = new_merchant()
    await desk.create(merchant, ORDERS)
    bearer = token(merchants=[merchant])
    async with desk.page(bearer=bearer, size=PHONE, touch=True) as page:
        await is_live(page)
        await counts_are(page, {"open": ORDERS, "created": ORDERS})
        part = page.get_by_test_id("board-part")
        await expect(part).to_have_text("Showing the first 200 of 300; more come as you scroll.")
        assert 0 < len(await rows(page)) < 60

        listed = await desk.listed(bearer)
        await desk.report([update(listed[3]["order_id"], "picked_up"), creation(f"{merchant}-new", merchant)])
        await expect(row_of(page, listed[3]["order_id"])).to_have_attribute("data-status", "picked_up")
        await expect(row_of(page, f"{merchant}-new")).to_be_visible()
        await desk.report([update(listed[-1]["order_id"], "cancelled")])  # beyond what is here
        await counts_are(page, {"open": ORDERS, "created": ORDERS - 1, "picked_up": 1, "cancelled": 1})

        await scroll_to(page, 1_000_000)
        await expect(part).to_be_hidden()
        await scroll_to(page, 1_000_000)
        wanted = [order["order_id"] for order in await desk.listed(bearer, active="true")]
        await expect(row_of(page, wanted[-1])).to_be_visible()
        await expect(page.get_by_test_id("board")).to_have_attribute("aria-rowcount", str(ORDERS + 1))
        for row in await rows(page):
            assert row["order_id"] == wanted[row["index"]]
        await expect(page.get_by_test_id("gap-notice")).to_be_hidden()  # most orders are unknown here


async def test_a_phone_shows_orders_before_they_are_counted_and_lists_again_what_changed_in_between(
    desk: Desk,
) -> None:
    merchant = new_merchant()
    ids = await desk.create(merchant, 20)
    counting, listed, listing = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def late_count(route: Route) -> None:
        await counting.wait()
        await route.continue_()

    async def late_answer(route: Route) -> None:
        response = await route.fetch()
        listed.set()
        await listing.wait()
        await route.fulfill(response=response)

    async with desk.page(bearer=token(merchants=[merchant]), size=PHONE, touch=True) as page:
        await page.route("**/v1/reports/open-counts*", late_count)
        await page.reload()
        await expect(row_of(page, ids[-1])).to_be_visible(timeout=8000)  # the count is given up after 10 s
        await expect(page.get_by_test_id("count-open").locator(".chip-count")).to_have_text("\N{EN DASH}")
        await desk.report([update(ids[-1], "cancelled"), creation(f"{merchant}-2nd", merchant)])
        counting.set()
        await is_live(page)
        await expect(row_of(page, f"{merchant}-2nd")).to_be_visible()
        await expect(row_of(page, ids[-1])).to_have_count(0)

        await page.route("**/v1/orders?*", late_answer)
        counting.clear()
        await page.reload()
        await listed.wait()
        await desk.report([update(ids[-2], "cancelled"), creation(f"{merchant}-3rd", merchant)])
        counting.set()
        await is_live(page)
        listing.set()
        await expect(row_of(page, f"{merchant}-3rd")).to_be_visible()
        await expect(row_of(page, ids[-2])).to_have_count(0)


async def test_a_phone_misses_nothing_while_the_notifier_is_away(desk: Desk) -> None:
    merchant = new_merchant()
    ids = await desk.create(merchant, 20)
    bearer = token(merchants=[merchant])
    async with desk.page(bearer=bearer, size=PHONE, touch=True) as page:
        await is_live(page)
        await desk.services["notifier"].kill()
        try:
            await expect(page.locator("html")).to_have_attribute("data-stale", "true")
            await desk.report([update(ids[4], "picked_up"), update(ids[5], "cancelled")])
        finally:
            await desk.services["notifier"].start()
        await is_live(page)
        await expect(row_of(page, ids[4])).to_have_attribute("data-status", "picked_up")
        await expect(row_of(page, ids[5])).to_have_count(0)
        await expect(page.get_by_test_id("board-part")).to_be_hidden()
        await expect(page.get_by_test_id("gap-notice")).to_be_hidden()


async def test_a_slow_phone_marks_the_time_of_its_first_view(desk: Desk) -> None:
    merchant = new_merchant()
    await desk.create(merchant, ORDERS)
    async with desk.page(bearer=token(merchants=[merchant]), size=PHONE, touch=True) as page:
        session = await page.context.new_cdp_session(page)
        await session.send("Emulation.setCPUThrottlingRate", {"rate": 20})  # the orders are sorted in slices
        await page.reload()

        async def is_marked() -> bool:
            return bool(await page.evaluate("performance.getEntriesByName('first-useful-view').length"))

        await eventually(is_marked, seconds=30)
        assert await rows(page)
