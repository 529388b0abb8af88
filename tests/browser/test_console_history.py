"""A very long history: all of it can be scrolled to, and little of it is in the page."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

from desk import Desk, is_live, new_merchant
from playwright.async_api import Page, Route, expect

from callers import token

STEPS = 10_000
PAGE = 500
MAX_ROWS_IN_PAGE = 400
AT = "2026-03-01T08:00:00.000Z"


def step(version: int) -> dict[str, Any]:
    """A step as the history has it; every third one tells where the parcel is."""
    statuses = ("created", "picked_up")
    return {
        "version": version,
        "status": statuses[version - 1] if version <= len(statuses) else "in_transit",
        "source": {"type": "driver", "id": f"driver-{version % 7 if version % 40 else 7}"},
        "occurred_at": AT,
        "received_at": AT,
        "recorded_at": AT,
        "metadata": {} if version % 3 else {"place": f"stop {version}"},
    }


async def with_history(page: Page, order: dict[str, Any]) -> None:
    """Answers for query that this order has had so many steps."""

    async def history(route: Route) -> None:
        cursor = parse_qs(urlsplit(route.request.url).query).get("cursor", ["0"])
        first = int(cursor[0])
        items = [step(version) for version in range(first + 1, first + PAGE + 1)]
        after = first + PAGE
        await route.fulfill(json={"items": items, "next_cursor": str(after) if after < STEPS else None})

    async def state(route: Route) -> None:
        await route.fulfill(json={**order, "version": STEPS, "status": "in_transit"})

    await page.route(f"**/v1/orders/{order['order_id']}", state)
    await page.route(f"**/v1/orders/{order['order_id']}/history*", history)


SCROLL_BY_PARTS = """async () => {
  const box = document.querySelector(".panel-content");
  const seen = new Set();
  let most = 0;
  const frame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 30)));
  for (let part = 0; part <= 24; part += 1) {
    box.scrollTop = ((box.scrollHeight - box.clientHeight) * part) / 24;
    await frame();
    await frame();
    const steps = [...document.querySelectorAll("[data-testid=step]")];
    most = Math.max(most, steps.length);
    const view = box.getBoundingClientRect();
    const inView = steps.filter((one) => {
      const { top, bottom } = one.getBoundingClientRect();
      return bottom > view.top && top < view.bottom;
    });
    if (inView.length) seen.add(Number(inView[0].dataset.version));
  }
  return { most, seen: [...seen] };
}"""


async def test_a_history_of_10000_steps_scrolls_with_few_rows_in_the_page(desk: Desk) -> None:
    merchant = new_merchant()
    (order_id,) = await desk.create(merchant, 1)
    bearer = token(merchants=[merchant])
    (order,) = await desk.listed(bearer)
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        await with_history(page, order)
        await page.get_by_test_id("board-row").first.click()
        await expect(page.get_by_test_id("order-panel")).to_have_attribute("data-version", str(STEPS))
        first = page.get_by_test_id("timeline").locator("li").first
        await expect(first).to_have_attribute("data-version", str(STEPS))
        walk = await page.evaluate(SCROLL_BY_PARTS)
        assert 0 < walk["most"] <= MAX_ROWS_IN_PAGE
        assert len(walk["seen"]) > 20
        assert walk["seen"] == sorted(walk["seen"], reverse=True)
        await page.evaluate("document.querySelector('.panel-content').scrollTop = 1e9")
        last = page.locator("[data-testid=step][data-version='1']")
        await expect(last).to_be_visible()
        await last.scroll_into_view_if_needed()
        await expect(last).to_be_in_viewport()
        await expect(page.get_by_test_id("order-title")).to_have_text(order_id)
        await expect(page.get_by_test_id("timeline-cut")).to_be_hidden()
