"""The heads of the board's columns, by mouse and by keyboard."""

from typing import Literal

from desk import Desk, is_live, new_merchant, rows, update
from playwright.async_api import Page, expect

from callers import eventually, token

Direction = Literal["ascending", "descending", "none"]


async def sorted_desk(desk: Desk) -> tuple[str, list[str]]:
    """A token that sees 60 orders, and their ids as they were created; the 21st was changed last."""
    merchant = new_merchant()
    ids = await desk.create(merchant, 60)
    await desk.report([update(ids[20], "picked_up")])
    bearer = token(merchants=[merchant])
    created = [order["order_id"] for order in await desk.listed(bearer, sort="created_at")]
    return bearer, created


async def begins_with(page: Page, order_id: str) -> None:
    """Returns when this order's row is the first."""

    async def is_first() -> bool:
        found = await rows(page)
        return bool(found) and found[0]["index"] == 0 and found[0]["order_id"] == order_id

    await eventually(is_first)


async def heads_say(page: Page, created: Direction, changed: Direction) -> None:
    """Returns when the heads name these directions."""
    for name, direction in (("Created", created), ("Changed", changed)):
        await expect(page.get_by_role("columnheader", name=name)).to_have_attribute("aria-sort", direction)


async def test_a_press_on_a_head_sorts_by_it_and_the_next_one_turns_it_round(desk: Desk) -> None:
    bearer, created = await sorted_desk(desk)
    changed = next(order_id for order_id in created if order_id.endswith("-0020"))
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        await heads_say(page, "descending", "none")
        await begins_with(page, created[-1])
        await page.get_by_test_id("sort-created_at").click()
        await expect(page).to_have_url(f"{desk.console}?sort=created_at")
        await heads_say(page, "ascending", "none")
        await begins_with(page, created[0])
        await page.get_by_test_id("sort-updated_at").click()
        await expect(page).to_have_url(f"{desk.console}?sort=-updated_at")
        await heads_say(page, "none", "descending")
        await begins_with(page, changed)
        await page.reload()
        await heads_say(page, "none", "descending")
        await begins_with(page, changed)
        await page.go_back()
        await heads_say(page, "ascending", "none")
        await begins_with(page, created[0])


async def test_the_keyboard_sorts_and_opens_no_order_by_it(desk: Desk) -> None:
    bearer, created = await sorted_desk(desk)
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        await page.keyboard.press("j")  # a row is active: Enter and Space on a head are not for it
        head = page.get_by_test_id("sort-created_at")
        await head.focus()
        await page.keyboard.press("Enter")
        await heads_say(page, "ascending", "none")
        await begins_with(page, created[0])
        await page.keyboard.press("Space")
        await expect(page).to_have_url(desk.console)
        await heads_say(page, "descending", "none")
        await begins_with(page, created[-1])
        await expect(head).to_be_focused()
        await expect(page.get_by_test_id("order-panel")).to_be_hidden()
        await expect(page.get_by_test_id("select-bar")).to_be_hidden()
