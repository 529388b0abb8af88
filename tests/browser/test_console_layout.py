"""Small things that a person sees at once: what is beside, below and out of sight."""

import pytest
from desk import PHONE, WIDE, Desk, ViewportSize, creation, first_row, is_live, new_merchant, row_of
from playwright.async_api import Page, Route, expect

from callers import eventually, token

SIZES = pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])

OVERLAPS = """() => [...document.querySelectorAll(".chart")].flatMap((chart) => {
  const texts = [...chart.querySelectorAll("text.axis")];
  const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
  return boxes.flatMap(([text, a], index) => boxes.slice(index + 1)
    .filter(([, b]) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)
    .map(([other]) => `${text} / ${other}`));
})"""


async def is_in_view(page: Page, order_id: str) -> bool:
    seen: bool = await row_of(page, order_id).evaluate(
        """(row) => {
          const [a, b] = [row, row.closest(".viewport")].map((element) => element.getBoundingClientRect());
          return a.top >= b.top && a.bottom <= b.bottom;
        }"""
    )
    return seen


@SIZES
async def test_rows_reach_both_edges_and_name_the_customer(desk: Desk, size: ViewportSize) -> None:
    merchant = new_merchant()
    ids = await desk.create(merchant, 2)
    async with desk.page("", token(merchants=[merchant]), size) as page:
        await is_live(page)
        await expect(row_of(page, ids[0]).locator(".c-customer .text").first).to_be_visible()
        await expect(row_of(page, ids[0])).to_contain_text(f"Customer of {ids[0]}")
        row, view = [await part.bounding_box() for part in (first_row(page), page.get_by_test_id("board"))]
        assert row is not None
        assert view is not None
        assert (row["x"], row["width"]) == (view["x"], view["width"])


@SIZES
async def test_much_metadata_leaves_the_timeline_in_sight(desk: Desk, size: ViewportSize) -> None:
    merchant = new_merchant()
    metadata = {f"field-{number}": "a rather long value of the shop system " * 3 for number in range(30)}
    await desk.report([creation(f"{merchant}-1", merchant, metadata=metadata)])
    async with desk.page(f"?order={merchant}-1", token(merchants=[merchant]), size) as page:
        await expect(page.get_by_test_id("step")).to_be_in_viewport()
        box = page.get_by_test_id("metadata").first
        await box.focus()
        await page.keyboard.press("End")
        await expect(box.get_by_text("field-29")).to_be_in_viewport()


async def test_the_row_of_the_order_that_an_address_opens_is_in_sight(desk: Desk) -> None:
    merchant = new_merchant()
    ids = await desk.create(merchant, 120)  # the newest first: this one is far below
    async with desk.page(f"?order={ids[0]}", token(merchants=[merchant])) as page:
        await is_live(page)
        await expect(row_of(page, ids[0])).to_have_attribute("aria-current", "true")
        assert await is_in_view(page, ids[0])
        await page.set_viewport_size({"width": WIDE["width"], "height": WIDE["height"] - 200})
        await eventually(lambda: is_in_view(page, ids[0]))


@pytest.mark.parametrize("width", [320, 390, 768, 1100, 1440])
async def test_no_labels_of_an_axis_overlap(desk: Desk, width: int) -> None:
    merchant = new_merchant()
    await desk.create(merchant, 3)
    size: ViewportSize = {"width": width, "height": 900}
    async with desk.page("?view=overview", token(merchants=[merchant]), size) as page:
        await is_live(page)
        for name in ("24 hours", "7 days", "10 minutes"):
            await page.get_by_role("button", name=name).click()
            await expect(page.locator(".chart svg text.axis").first).to_be_visible()
            assert await page.evaluate(OVERLAPS) == []


async def test_another_tab_of_a_demonstration_does_not_make_its_reader_somebody_else(desk: Desk) -> None:
    merchant = new_merchant()
    own, offered = token(merchants=[merchant], sub="ada"), token(merchants=[merchant], sub="demo-operator")
    async with desk.page("favicon.svg") as page:

        async def offer(route: Route) -> None:
            answer = await route.fetch()
            await route.fulfill(json=await answer.json() | {"token": offered})

        await page.context.route("**/config.json", offer)
        await page.goto(desk.console)
        await is_live(page)
        await expect(page.locator("#who")).to_contain_text("demo-operator")
        await page.get_by_test_id("account").click()
        await page.get_by_test_id("sign-out").click()
        await page.get_by_test_id("token-input").fill(own)
        await page.get_by_test_id("sign-in-send").click()
        await is_live(page)
        await expect(page.locator("#who")).to_contain_text("ada")

        other = await page.context.new_page()
        await other.goto(desk.console)
        await expect(other.get_by_test_id("sign-in")).to_be_visible()
        await other.get_by_test_id("sign-in-offer").click()
        await is_live(other)
        await expect(page.locator("#who")).to_contain_text("ada")
