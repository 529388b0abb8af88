"""A dispatcher's day in a real browser: saved views, drivers, late orders, many orders updated at once."""

import asyncio
from typing import Any

import pytest
from desk import Desk, creation, first_row, is_live, new_merchant, row_of, rows, update
from playwright.async_api import Page, Route, expect

from callers import eventually, token


async def mixed_orders(desk: Desk, **claims: Any) -> tuple[str, str, list[str]]:
    """Eight orders of a new merchant: two picked up by a driver of their own, the others created."""
    merchant = new_merchant()
    ids = [f"{merchant}-{number}" for number in range(8)]
    for order_id in ids:  # one after the other, so that they are listed in this order
        await desk.report([creation(order_id, merchant)])
    await desk.report([update(order_id, "picked_up") for order_id in ids[:2]], sub=f"driver-{merchant}")
    return merchant, token(merchants=[merchant], sub=f"ada-{merchant}", **claims), ids


async def shows_only(page: Page, order_ids: list[str]) -> None:
    async def shown() -> bool:
        return sorted(row["order_id"] for row in await rows(page)) == sorted(order_ids)

    await eventually(shown)


async def is_focused(page: Page, test_id: str) -> None:
    """The control has the keyboard, and shows it."""
    await expect(page.get_by_test_id(test_id).and_(page.locator(":focus"))).to_have_count(1)
    assert await page.evaluate(
        "() => document.activeElement.matches(':focus-visible')"
        " && getComputedStyle(document.activeElement).outlineStyle !== 'none'"
    ), f"{test_id} does not show that it has the keyboard"


async def tab_to(page: Page, test_id: str, *, most: int = 30, key: str = "Tab") -> None:
    """Moves on with the Tab key until the control has the keyboard."""
    for _ in range(most):
        await page.keyboard.press(key)
        if await page.evaluate("document.activeElement?.dataset.testid") == test_id:
            return await is_focused(page, test_id)
    raise AssertionError(f"{test_id} is not reached with {key}")


async def is_announced(page: Page, text: str) -> None:
    await expect(page.locator("#announcements")).to_have_text(text)


async def test_a_day_at_the_desk_needs_nothing_but_the_keyboard(desk: Desk) -> None:
    """Sign-in, board, filter, saved view, several orders updated, some refused, an order, its timeline."""
    merchant, bearer, ids = await mixed_orders(desk)
    await desk.report([update(ids[5], "picked_up"), *[update(ids[5], "in_transit")] * 3])
    async with desk.page() as page:
        press, write = page.keyboard.press, page.keyboard.insert_text
        await expect(page.get_by_test_id("token-input")).to_be_focused()
        await write(bearer)
        await press("Tab")
        await is_focused(page, "sign-in-send")
        await press("Enter")
        await is_live(page)

        await tab_to(page, "filter-button")
        await press("Enter")
        await expect(page.get_by_test_id("filter-form")).to_be_visible()
        await press("Escape")
        await is_focused(page, "filter-button")
        await press("Enter")
        await tab_to(page, "filter-source_id")
        await write(f"driver-{merchant}")
        await press("Enter")
        await is_focused(page, "filter-button")
        await shows_only(page, ids[:2])

        await press("Shift+Tab")
        await is_focused(page, "views-button")
        await press("Enter")
        await tab_to(page, "view-name")
        await write("Mine")
        await press("Enter")
        await is_announced(page, "The view Mine is saved.")
        await is_focused(page, "views-button")
        await expect(page.get_by_test_id("views-button")).to_have_accessible_name("Saved views, now: Mine")
        await page.goto(desk.console)
        await is_live(page)
        await tab_to(page, "views-button")
        await press("Enter")
        await tab_to(page, "saved-view")
        await press("Enter")
        await shows_only(page, ids[:2])
        await is_focused(page, "board-row")

        await page.goto(f"{desk.console}?sort=created_at")
        await is_live(page)
        await tab_to(page, "board-row")
        await press("j")
        await press("k")
        await press("Space")
        await is_announced(page, "1 selected")
        for _ in range(5):
            await press("Shift+ArrowDown")
        await is_announced(page, "6 selected")
        await expect(row_of(page, ids[5])).to_have_attribute("aria-selected", "true")
        await press("Space")
        await is_announced(page, "5 selected")
        await press("Space")
        await tab_to(page, "bulk-open")
        await press("Enter")
        dialog = page.get_by_test_id("bulk")
        await expect(dialog.locator("select")).to_be_focused()
        assert await page.evaluate("document.querySelector('dialog[open]').matches(':modal')")
        await press("Escape")
        await is_focused(page, "bulk-open")
        await press("Enter")
        await expect(dialog.locator("select")).to_have_value("")  # nothing happens by mistake
        await press("Home")
        await expect(dialog.locator("select")).to_have_value("cancelled")
        await press("ArrowDown")
        await expect(dialog.locator("select")).to_have_value("picked_up")
        await tab_to(page, "bulk-send")
        await press("Enter")
        await expect(page.get_by_test_id("bulk-summary")).to_have_text(
            "3 updated, 3 refused, and still selected."
        )
        await expect(page.get_by_test_id("bulk-summary")).to_have_role("status")
        for order_id, outcome in ((ids[2], "applied"), (ids[0], "rejected"), (ids[5], "rejected")):
            told = dialog.locator(f"[data-order='{order_id}']")
            await expect(told).to_have_attribute("data-outcome", outcome)
        await expect(dialog.locator(f"[data-order='{ids[0]}']")).to_contain_text("picked_up")
        await expect(dialog.locator("select")).to_be_focused()
        await press("Escape")
        await is_focused(page, "bulk-open")
        await expect(page.get_by_test_id("selected-count")).to_have_text("3 selected")
        selected = page.locator("[data-testid=board-row][aria-selected=true]")
        assert sorted(
            [await row.get_attribute("data-order-id") or "" for row in await selected.all()]
        ) == sorted([ids[0], ids[1], ids[5]])
        await press("Shift+Tab")
        await press("Shift+Tab")
        await is_focused(page, "bulk-reasons")
        await press("Enter")
        await expect(dialog.get_by_test_id("outcome")).to_have_count(3)
        await press("Home")
        await expect(dialog.locator("select")).to_have_value("in_transit")
        await tab_to(page, "bulk-send")
        await press("Enter")
        await expect(page.get_by_test_id("bulk-summary")).to_have_text("3 updated.")
        await is_focused(page, "bulk-done")
        await press("Enter")
        await expect(page.get_by_test_id("select-bar")).to_be_hidden()
        await is_focused(page, "board-row")

        await press("Home")
        await press("Enter")
        await expect(page.get_by_test_id("order-panel")).to_be_focused()
        opened = await page.get_by_test_id("order-title").inner_text()
        await press("Escape")
        await is_focused(page, "board-row")
        await expect(row_of(page, opened)).to_be_focused()

        await page.goto(f"{desk.console}?active=any&order={ids[5]}")
        await tab_to(page, "group-toggle")
        await expect(page.get_by_test_id("group-toggle")).to_have_attribute("aria-expanded", "false")
        await press("Enter")
        await expect(page.get_by_test_id("group-toggle")).to_have_attribute("aria-expanded", "true")
        await is_focused(page, "group-toggle")
        await press("Escape")
        await expect(page.get_by_test_id("order-panel")).to_be_hidden()
        await is_focused(page, "board-row")


async def test_a_chosen_view_gets_the_keyboard_once_its_rows_are_there(desk: Desk) -> None:
    _, bearer, ids = await mixed_orders(desk)
    await desk.report([update(ids[0], "in_transit"), update(ids[0], "delivered")])
    asked, answers = asyncio.Event(), asyncio.Event()

    async def wait_with_the_answer(route: Route) -> None:
        asked.set()
        await answers.wait()
        await route.continue_()

    async def choose(page: Page, name: str) -> None:
        asked.clear()
        answers.clear()
        await page.get_by_test_id("views-button").focus()
        await page.keyboard.press("Enter")
        await page.get_by_test_id("saved-view").filter(has_text=name).focus()
        await page.keyboard.press("Enter")
        await asked.wait()
        await is_focused(page, "views-button")

    async with desk.page("?status=delivered", bearer) as page:
        await shows_only(page, ids[:1])
        await save_view(page, "Delivered")
        await page.goto(f"{desk.console}?status=cancelled")
        await expect(page.get_by_test_id("board-empty")).to_contain_text("No orders here")
        await save_view(page, "Cancelled")
        await page.goto(desk.console)
        await is_live(page)
        await page.route("**/v1/orders?*status=*", wait_with_the_answer)

        await choose(page, "Delivered")
        answers.set()
        await is_focused(page, "board-row")
        await expect(row_of(page, ids[0])).to_be_focused()

        await choose(page, "Cancelled")
        answers.set()
        await is_focused(page, "filter-button")  # which may be why there are none
        await is_announced(page, "No orders here.")

        await choose(page, "Delivered")
        await page.keyboard.press("/")
        answers.set()
        await shows_only(page, ids[:1])
        await expect(page.locator("#search")).to_be_focused()


async def save_view(page: Page, name: str) -> None:
    await page.get_by_test_id("views-button").click()
    await page.get_by_test_id("view-name").fill(name)
    await page.get_by_test_id("view-save").click()


@pytest.mark.parametrize(
    ("button", "control"), [("filter-button", "filter-source_id"), ("views-button", "view-name")]
)
async def test_a_menu_is_whole_as_soon_as_it_is_open(desk: Desk, button: str, control: str) -> None:
    """Who is quick with the keyboard is in it before the browser tells that it was opened."""
    _, bearer, _ = await mixed_orders(desk)
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        kept = await page.get_by_test_id("filter-button").evaluate(
            """async (button) => {
              const find = () => document.querySelector("[data-testid=filter-source_id]");
              button.click();
              button.click();
              button.click();
              find().focus();
              const focused = document.activeElement;
              await new Promise((resolve) => setTimeout(resolve, 100));
              return focused === find() && document.activeElement === focused;
            }"""
        )
    assert kept


async def test_a_batch_whose_answer_was_lost_is_sent_again_and_does_nothing_twice(desk: Desk) -> None:
    _, bearer, ids = await mixed_orders(desk)
    sent: list[str] = []

    async def lose_the_first_answer(route: Route) -> None:
        sent.append(route.request.post_data or "")
        if len(sent) == 1:
            await route.fetch()
            await route.abort()
        else:
            await route.continue_()

    async with desk.page("?sort=created_at", bearer) as page:
        await is_live(page)
        await page.route("**/v1/batch", lose_the_first_answer)
        for order_id in ids[2:4]:
            await row_of(page, order_id).locator(".c-check input").check()
        await page.get_by_test_id("bulk-open").click()
        dialog = page.get_by_test_id("bulk")
        await dialog.locator("select").select_option("picked_up")
        await page.get_by_test_id("bulk-send").click()
        # Guarded by its version, a second update would be refused: this is the first one's outcome.
        await expect(page.get_by_test_id("bulk-summary")).to_have_text("2 updated.")
    assert len(sent) == 2
    assert sent[0] == sent[1]


async def test_rows_are_links_that_the_browser_opens_in_its_own_ways(desk: Desk) -> None:
    _, bearer, ids = await mixed_orders(desk)
    async with desk.page("?sort=created_at", bearer) as page:
        await is_live(page)
        row = row_of(page, ids[3])
        link = row.get_by_role("link", name=ids[3], exact=True)
        assert await link.evaluate("(link) => link.href") == f"{desk.console}?order={ids[3]}"
        for options in ({"button": "middle"}, {"modifiers": ["Control"]}):
            async with page.context.expect_page() as opening:
                await row.click(position={"x": 700, "y": 20}, **options)
            opened = await opening.value
            await expect(opened.get_by_test_id("order-title")).to_have_text(ids[3])
            await opened.close()
        await expect(page.get_by_test_id("order-panel")).to_be_hidden()
        await row.click()
        await expect(page).to_have_url(f"{desk.console}?sort=created_at&order={ids[3]}")
        # With the pointer: a box, and a range with Shift.
        await page.get_by_test_id("order-close").click()
        await row.locator(".c-check label").click(position={"x": 3, "y": 4})
        await expect(page.get_by_test_id("selected-count")).to_have_text("1 selected")
        await row_of(page, ids[6]).click(modifiers=["Shift"])
        await expect(page.get_by_test_id("selected-count")).to_have_text("4 selected")
        await expect(page.get_by_test_id("order-panel")).to_be_hidden()
        await page.keyboard.press("Escape")
        await expect(page.get_by_test_id("select-bar")).to_be_hidden()


async def test_a_view_is_kept_by_name_for_whoever_saved_it_and_its_address_alone_reproduces_it(
    desk: Desk,
) -> None:
    merchant, bearer, ids = await mixed_orders(desk)
    view = f"status=created&status=picked_up&merchant_id={merchant}&source_id=driver-{merchant}"
    address = f"?{view}&columns=merchant%2Cage&sort=created_at"
    async with desk.page(address, bearer) as page:
        await shows_only(page, ids[:2])
        await page.get_by_test_id("views-button").click()
        await page.get_by_test_id("view-name").fill("Driver's own")
        await page.get_by_test_id("view-save").click()
        await page.get_by_test_id("views-button").click()
        saved = page.get_by_test_id("saved-view")
        assert await saved.evaluate("(link) => link.href") == desk.console + address
        await page.get_by_test_id("view-rename").click()
        await page.get_by_test_id("view-new-name").fill("Two columns")
        await page.get_by_test_id("view-new-name").press("Enter")
        await expect(saved).to_have_text("Two columns")
        await expect(saved).to_be_focused()
        somebody = token(merchants=[merchant], sub=f"grace-{merchant}")
        await page.evaluate("(bearer) => sessionStorage.setItem('tracking.token', bearer)", somebody)
        await page.goto(desk.console)
        await is_live(page)
        await page.get_by_test_id("views-button").click()
        await expect(page.get_by_test_id("saved-views")).to_contain_text("None yet")
        await page.evaluate("(bearer) => sessionStorage.setItem('tracking.token', bearer)", bearer)
        await page.reload()
        await is_live(page)
        await page.get_by_test_id("views-button").click()
        await saved.click()
        await expect(page).to_have_url(desk.console + address)
        await expect(page.get_by_test_id("views-button")).to_have_text("Two columns")
        await page.get_by_test_id("views-button").click()
        await page.get_by_test_id("view-delete").click()
        await expect(saved).to_have_count(0)
    async with desk.page(address, bearer) as page:
        await shows_only(page, ids[:2])
        row = row_of(page, ids[0])
        for name, is_shown in (("merchant", True), ("customer", False), ("source", False), ("age", True)):
            await expect(row.locator(f".c-{name}")).to_be_visible(visible=is_shown)
        await expect(first_row(page)).to_have_attribute("data-order-id", ids[0])


async def test_a_driver_and_a_merchant_are_suggested_from_what_the_token_may_see(desk: Desk) -> None:
    merchant, bearer, _ = await mixed_orders(desk)
    stranger, _, _ = await mixed_orders(desk)
    gone = f"{merchant}-gone"
    await desk.report([creation(gone, merchant), update(gone, "cancelled")], sub=f"late-{merchant}")

    async def is_searched() -> bool:
        answer = await desk.get("/v1/orders", bearer, q=f"late-{merchant}")
        return [order["order_id"] for order in answer["items"]] == [gone]

    await eventually(is_searched, seconds=45)
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        await page.get_by_test_id("filter-button").click()
        form = page.get_by_test_id("filter-form")
        driver = form.locator("[name=source_id]")
        for typed, offered in (
            ("DRIVER-m", [f"driver-{merchant}"]),
            (f"late-{merchant}"[:-2], [f"late-{merchant}"]),
            (f"driver-{stranger}", []),
        ):
            async with page.expect_response("**/v1/orders?q=*"):
                await driver.fill(typed)
            options = form.locator("#suggested-source_id option")
            await expect(options).to_have_count(len(offered))
            assert [await option.get_attribute("value") for option in await options.all()] == offered
        await driver.fill(f"late-{merchant}")
        await form.locator("[name=active]").select_option("any")
        await form.locator("[type=text][name=merchant_id], input:not([type])[name=merchant_id]").fill(
            merchant
        )
        await form.get_by_role("button", name="Show").click()
        await shows_only(page, [gone])
        await expect(page).to_have_url(
            f"{desk.console}?merchant_id={merchant}&active=any&source_id=late-{merchant}"
        )


async def test_ages_are_marked_by_the_limits_of_the_workflow(desk: Desk) -> None:
    _, bearer, ids = await mixed_orders(desk)

    async def with_limits(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(json=await answer.json() | {"late_after_seconds": {"created": 1}})

    async with desk.page("?sort=created_at", bearer) as page:
        await is_live(page)
        await expect(row_of(page, ids[3])).to_have_attribute("data-late", "false")
        await page.route("**/console/config.json", with_limits)
        await page.reload()
        await is_live(page)
        age = row_of(page, ids[3]).locator(".c-age")
        await expect(age).to_contain_text("late")
        await expect(age.locator(".late-icon")).to_be_visible()
        await expect(row_of(page, ids[0])).to_have_attribute("data-late", "false")
