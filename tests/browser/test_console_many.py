"""The board of a desk with more open orders than a page holds."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from desk import (
    Desk,
    counts_shown,
    creation,
    is_live,
    new_merchant,
    row_of,
    rows,
    scroll_to,
    update,
)
from playwright.async_api import Page, Route, WebSocketRoute, expect

from callers import eventually, token

ORDERS = 450
UNKNOWN = "\N{EN DASH}"
OTHERS = 20_000
"""Orders that the count has besides, so that few must be created: as many as a page holds."""

COUNTS = "**/v1/reports/open-counts*"


def with_others(merchant: str) -> Callable[[Route], Awaitable[None]]:
    """Answers of the count with `OTHERS` more orders in transit."""

    async def answer(route: Route) -> None:
        response = await route.fetch()
        counted: dict[str, Any] = await response.json()
        others = {"merchant_id": f"{merchant}-others", "status": "in_transit", "count": OTHERS}
        await route.fulfill(response=response, json=counted | {"rows": [*counted["rows"], others]})

    return answer


async def counts_are(page: Page, wanted: dict[str, int]) -> None:
    async def shown() -> bool:
        return await counts_shown(page, list(wanted)) == wanted

    await eventually(shown)


async def test_the_browsers_cache_is_not_asked_where_equal_requests_of_two_windows_would_wait_in_turn(
    desk: Desk,
) -> None:
    async with desk.page(bearer=token(merchants=[new_merchant()])) as page:
        async with page.expect_request(COUNTS) as asked:
            await page.reload()
        headers = await (await asked.value).all_headers()
        assert headers["cache-control"] == "no-cache"


async def test_a_desk_with_very_many_orders_lists_them_by_pages_and_counts_all(desk: Desk) -> None:
    merchant = new_merchant()
    ids = await desk.create(merchant, ORDERS)
    bearer = token(merchants=[merchant])
    async with desk.page(bearer=bearer) as page:
        await page.route(COUNTS, with_others(merchant))
        await page.reload()
        await is_live(page)
        await counts_are(page, {"open": OTHERS + ORDERS, "created": ORDERS, "in_transit": OTHERS})
        part = page.get_by_test_id("board-part")
        await expect(part).to_have_text("Showing the first 200 of 20,450; more come as you scroll.")
        assert 0 < len(await rows(page)) < 60

        changes = [update(ids[0], "picked_up"), creation(f"{merchant}-new", merchant)]
        await desk.report(changes)  # one of an order that is not here
        await expect(row_of(page, f"{merchant}-new")).to_be_visible()
        await counts_are(page, {"open": OTHERS + ORDERS + 1, "created": ORDERS, "picked_up": 1})
        await desk.report([update(ids[1], "cancelled")])
        await counts_are(page, {"open": OTHERS + ORDERS, "created": ORDERS - 1, "cancelled": 1})

        await page.goto(f"{desk.console}?merchant_id={merchant}&sort=created_at")
        await is_live(page)
        await counts_are(page, {"open": ORDERS, "created": ORDERS - 1, "picked_up": 1, "in_transit": 0})
        oldest = [order["order_id"] for order in await desk.listed(bearer, active="true", sort="created_at")]
        await expect(row_of(page, oldest[19])).to_be_visible()
        assert [row["order_id"] for row in await rows(page)][:20] == oldest[:20]

        await page.get_by_test_id("search").fill(ids[1])  # a closed one
        await expect(row_of(page, ids[1])).to_be_visible()
        await expect(page.get_by_test_id("count-open").locator(".chip-count")).to_have_text(UNKNOWN)
        await page.get_by_test_id("search").fill("")
        await expect(row_of(page, oldest[9])).to_be_visible()
        for listed in (200, 400):
            await expect(part).to_have_text(f"Showing the first {listed} of 450; more come as you scroll.")
            await scroll_to(page, 1_000_000)
        await expect(part).to_be_hidden()
        await scroll_to(page, 1_000_000)
        await expect(row_of(page, oldest[-1])).to_be_visible()
        await expect(page.get_by_test_id("gap-notice")).to_be_hidden()


async def test_what_changes_between_the_count_and_the_stream_is_counted_once(desk: Desk) -> None:
    merchant = new_merchant()
    ids = await desk.create(merchant, 30)
    bearer = token(merchants=[merchant])
    counted, streaming = asyncio.Event(), asyncio.Event()

    async def late(socket: WebSocketRoute) -> None:
        counted.set()
        await streaming.wait()
        socket.connect_to_server()

    async with desk.page(bearer=bearer) as page:
        await page.route(COUNTS, with_others(merchant))
        await page.route_web_socket("**/v1/stream*", late)
        await page.reload()
        await counted.wait()
        await expect(row_of(page, ids[-1])).to_be_visible()
        await counts_are(page, {"open": OTHERS + 30, "created": 30, "in_transit": OTHERS})
        await expect(page.get_by_test_id("connection")).to_have_text("Connecting")
        await desk.report([update(order_id, "picked_up") for order_id in ids[:7]])
        await desk.report([update(order_id, "cancelled") for order_id in ids[:3]])
        await desk.report([creation(f"{merchant}-new", merchant)])
        streaming.set()
        await is_live(page)
        await counts_are(page, {"open": OTHERS + 28, "created": 24, "picked_up": 4, "in_transit": OTHERS})
        await expect(row_of(page, f"{merchant}-new")).to_be_visible()
        await expect(row_of(page, ids[0])).to_have_count(0)
        await desk.report([update(ids[7], "picked_up")])
        await counts_are(page, {"open": OTHERS + 28, "created": 23, "picked_up": 5})


async def test_a_list_that_cannot_be_read_says_so_and_is_read_again(desk: Desk) -> None:
    merchant = new_merchant()
    ids = await desk.create(merchant, 30)
    refusing = True

    async def away(route: Route) -> None:
        if not refusing:
            await route.continue_()
            return
        problem = {"type": "/problems/database-unavailable", "status": 503, "detail": "Try again later."}
        await route.fulfill(status=503, json=problem, content_type="application/problem+json")

    async with desk.page(bearer=token(merchants=[merchant])) as page:
        await page.route(COUNTS, with_others(merchant))
        await page.route("**/v1/orders?*", away)
        await page.reload()
        await is_live(page)
        await expect(page.get_by_text("Orders could not be loaded: Try again later.")).to_be_visible()
        await desk.report([update(ids[0], "picked_up")])
        await counts_are(page, {"open": OTHERS + 30, "created": 29, "picked_up": 1})
        await expect(page.get_by_test_id("board-empty")).to_have_text("Getting the orders")
        await expect(row_of(page, ids[0])).to_have_count(0)  # it would stand for the whole list
        refusing = False
        await expect(row_of(page, ids[-1])).to_be_visible()
        await scroll_to(page, 1_000_000)
        await expect(row_of(page, ids[0])).to_have_attribute("data-status", "picked_up")
        await expect(page.get_by_text("Orders could not be loaded")).to_have_count(0)
