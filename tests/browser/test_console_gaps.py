"""The console after a fault of the server: changes that it left out."""

import orjson
from desk import Desk, creation, is_live, new_merchant, row_of, update
from playwright.async_api import WebSocketRoute, expect

from callers import token


class LossyStream:
    """A stream between page and notifier that drops the events of one status."""

    def __init__(self, dropped_status: str) -> None:
        self.dropped_status = dropped_status

    def route(self, page_side: WebSocketRoute) -> None:
        """Connects a page."""

        def pass_on(message: str | bytes) -> None:
            document = orjson.loads(message)
            if document["type"] == "events":
                events = document["events"]
                kept = [event for event in events if event["data"]["status"] != self.dropped_status]
                message = orjson.dumps(document | {"events": kept}).decode()
            page_side.send(message)

        page_side.connect_to_server().on_message(pass_on)


async def test_missing_changes_are_shown_until_all_orders_are_loaded_again(desk: Desk) -> None:
    merchant = new_merchant()
    ids = [f"{merchant}-{number}" for number in range(3)]
    await desk.report([creation(order_id, merchant) for order_id in ids])
    async with desk.page() as page:
        await page.route_web_socket("**/v1/stream*", LossyStream("picked_up").route)
        await page.evaluate(
            "(bearer) => { sessionStorage['tracking.token'] = bearer; }", token(merchants=[merchant])
        )
        await page.reload()
        await is_live(page)
        notice = page.get_by_test_id("gap-notice")
        await expect(notice).to_be_hidden()

        await desk.report([update(order_id, "picked_up") for order_id in ids])
        await expect(row_of(page, ids[0])).to_have_attribute("data-status", "created")
        await expect(notice).to_be_hidden()  # nobody can know yet
        await desk.report([update(ids[0], "in_transit")])
        await expect(notice).to_contain_text(f"The server left out changes of {ids[0]}.")
        await desk.report([update(ids[1], "in_transit")])
        await expect(notice).to_contain_text(f"The server left out changes of {ids[1]} and 1 more.")
        await expect(row_of(page, ids[2])).to_have_attribute("data-status", "created")

        await page.get_by_test_id("gap-load").click()
        await expect(notice).to_be_hidden()
        await is_live(page)
        await expect(row_of(page, ids[2])).to_have_attribute("data-status", "picked_up")
        await expect(page.get_by_test_id("count-open").locator(".chip-count")).to_have_text("3")
        await desk.report([update(ids[2], "in_transit")])
        await expect(row_of(page, ids[2])).to_have_attribute("data-status", "in_transit")
        await expect(notice).to_be_hidden()
