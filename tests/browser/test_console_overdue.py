"""Due times on the board in a real browser: overdue orders are marked, counted, filtered and sorted."""

from datetime import UTC, datetime, timedelta
from typing import Any

from desk import PHONE, Desk, checkpoint, counts_shown, creation, is_live, new_merchant, row_of, rows, update
from playwright.async_api import Page, Route, expect

from callers import eventually, token

UNKNOWN = "\N{EN DASH}"
OTHERS = 20_000
"""Orders that the count has besides, so that few must be created: as many as a page holds."""


def at(**ahead: float) -> str:
    """A time from now, as callers send it."""
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat()


async def due_orders(desk: Desk) -> tuple[str, list[str]]:
    """A token, and the ids of five orders: two are overdue, two due later, and one has no due time."""
    merchant = new_merchant()
    ids = [f"{merchant}-{number}" for number in range(5)]
    ahead = [{"hours": -3}, {"hours": -2}, {"hours": 5}, {"days": 4}]
    due = [{"due_at": at(**one)} for one in ahead] + [{}]
    await desk.report([creation(order_id, merchant, **more) for order_id, more in zip(ids, due, strict=True)])
    await desk.report([update(ids[1], "picked_up")])
    bearer = token(merchants=[merchant])

    async def are_overdue() -> bool:
        return len(await desk.listed(bearer, overdue="true")) == 2

    await eventually(are_overdue)
    return bearer, ids


async def lists(page: Page, order_ids: list[str]) -> None:
    """Returns when these are the rows, in this order."""

    async def shown() -> bool:
        return [row["order_id"] for row in await rows(page)] == order_ids

    await eventually(shown)


async def counts_are(page: Page, **wanted: int) -> None:
    names = {name.replace("overdue", "is-overdue"): count for name, count in wanted.items()}

    async def shown() -> bool:
        return await counts_shown(page, names) == names

    await eventually(shown)


async def test_overdue_orders_stand_out_and_are_counted_filtered_and_sorted(desk: Desk) -> None:
    bearer, ids = await due_orders(desk)
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        await counts_are(page, open=5, overdue=2, created=4, picked_up=1)
        for order_id, due in zip(ids, ("overdue", "overdue", "due", "due", ""), strict=True):
            await expect(row_of(page, order_id)).to_have_attribute("data-due", due)
        late = row_of(page, ids[0]).locator(".c-due")
        await expect(late).to_contain_text("3h")
        await expect(late).to_contain_text("overdue")
        await expect(late.locator(".due-icon")).to_be_visible()

        await page.get_by_test_id("count-is-overdue").click()
        await expect(page).to_have_url(f"{desk.console}?overdue=true")
        await counts_are(page, open=5, overdue=2, created=1, picked_up=1)
        await page.get_by_test_id("sort-due_at").click()
        await lists(page, ids[:2])
        await page.get_by_test_id("count-picked_up").click()
        await lists(page, ids[1:2])
        await counts_are(page, open=4, overdue=1, created=1, picked_up=1)  # those with a due time
        await desk.report([update(ids[1], "in_transit")])
        await counts_are(page, open=4, overdue=0, created=1, picked_up=0, in_transit=1)
        await page.get_by_test_id("count-open").click()
        await expect(page).to_have_url(f"{desk.console}?sort=due_at")
        await lists(page, ids[:4])
        await page.get_by_test_id("sort-due_at").click()
        await lists(page, ids[3::-1])
        await expect(page.get_by_role("columnheader", name="Due")).to_have_attribute(
            "aria-sort", "descending"
        )


async def test_an_order_becomes_overdue_and_ceases_to_be_while_one_looks(desk: Desk) -> None:
    bearer, ids = await due_orders(desk)
    async with desk.page("?overdue=true&sort=due_at", bearer) as page:
        await is_live(page)
        await lists(page, ids[:2])
        await desk.report([checkpoint(ids[4], "delayed", due_at=at(hours=-1))])
        await lists(page, [*ids[:2], ids[4]])
        await desk.report([checkpoint(ids[0], "delayed", due_at=at(hours=9))])
        await expect(row_of(page, ids[0])).to_have_attribute("data-leaving", "true")
        await lists(page, [ids[1], ids[4]])
        await counts_are(page, overdue=2)
        await page.get_by_test_id("filter-button").click()
        form = page.get_by_test_id("filter-form")
        await expect(form.locator("[name=overdue]")).to_have_value("true")
        await form.locator("[name=overdue]").select_option("false")
        await form.get_by_role("button", name="Show").click()
        await lists(page, [ids[2], ids[0], ids[3]])


async def test_a_board_that_does_not_hold_all_orders_has_the_overdue_ones_counted_and_listed(
    desk: Desk,
) -> None:
    bearer, ids = await due_orders(desk)

    async def with_others(route: Route) -> None:
        response = await route.fetch()
        counted: dict[str, Any] = await response.json()
        others = {"merchant_id": "m-others", "status": "in_transit", "count": OTHERS, "overdue": 7}
        await route.fulfill(response=response, json=counted | {"rows": [*counted["rows"], others]})

    async with desk.page(bearer=bearer) as page:
        await page.route("**/v1/reports/open-counts*", with_others)
        await page.goto(f"{desk.console}?overdue=true&sort=due_at")
        await is_live(page)
        await lists(page, ids[:2])
        await counts_are(page, overdue=9, created=1, picked_up=1, in_transit=7)
        await expect(page.get_by_test_id("count-open").locator(".chip-count")).to_have_text(UNKNOWN)
        await desk.report([checkpoint(ids[4], "delayed", due_at=at(hours=-1))])
        await lists(page, [*ids[:2], ids[4]])
        await counts_are(page, overdue=10, created=2)
        await desk.report([update(ids[1], "cancelled")])
        await counts_are(page, overdue=9, picked_up=0)
        await page.goto(f"{desk.console}?view=overview")
        await expect(page.get_by_test_id("tile-overdue")).to_have_text("9")


async def test_a_phone_shows_when_orders_are_due(desk: Desk) -> None:
    bearer, ids = await due_orders(desk)
    async with desk.page(bearer=bearer, size=PHONE, touch=True) as page:
        await is_live(page)
        await expect(row_of(page, ids[0]).locator(".c-due")).to_contain_text("overdue")
        await expect(row_of(page, ids[2]).locator(".c-due")).to_be_visible()
        await counts_are(page, overdue=2)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
