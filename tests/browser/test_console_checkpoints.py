"""What happens to orders besides their steps, in a real browser: shown, and sent from the forms."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from desk import PHONE, Desk, checkpoint, correction, creation, is_live, new_merchant, row_of, update
from playwright.async_api import Page, Route, expect

from callers import token

CORRECTOR = "orders:read orders:write orders:correct"
REASON = "The wrong parcel was scanned"


def at(**ahead: float) -> str:
    """A time from now, as callers send it."""
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat()


async def delivered_order(desk: Desk, **more: Any) -> tuple[str, str]:
    """An order that was delivered, and a token of somebody who may correct it."""
    merchant = new_merchant()
    order_id = f"{merchant}-1"
    steps = [update(order_id, status) for status in ("picked_up", "in_transit", "delivered")]
    await desk.report([creation(order_id, merchant, **more), *steps])
    return order_id, token(merchants=[merchant], sub="ada", source_type="operator", scope=CORRECTOR)


def step(page: Page, version: int) -> Any:
    """The row of the timeline of this version."""
    return page.locator(f"[data-testid=step][data-version='{version}']")


async def stands_at(page: Page, status: str, version: int) -> None:
    panel = page.get_by_test_id("order-panel")
    await expect(panel).to_have_attribute("data-version", str(version))
    await expect(panel).to_have_attribute("data-status", status)


async def test_the_timeline_tells_what_happened_besides_the_steps(desk: Desk) -> None:
    merchant = new_merchant()
    order_id = f"{merchant}-1"
    scope = {"scope": CORRECTOR}
    await desk.report([creation(order_id, merchant, due_at=at(days=2)), update(order_id, "picked_up")])
    bearer = token(merchants=[merchant])
    async with desk.page(f"?order={order_id}", bearer) as page:
        await stands_at(page, "picked_up", 2)
        told = [
            update(order_id, "in_transit"),
            checkpoint(order_id, "delivery_attempted", message="Nobody at home\nThe bell is broken"),
            checkpoint(order_id, "eta_changed", eta=at(days=3), due_at=at(days=4)),
            update(order_id, "delivered"),
            correction(order_id, "in_transit", REASON),
        ]
        await desk.report(told, **scope)
        for again in (False, True):
            await stands_at(page, "in_transit", 7)
            await expect(step(page, 1).get_by_test_id("new-times")).to_contain_text("Due")
            await expect(step(page, 4)).to_contain_text("Delivery attempted")
            await expect(step(page, 4).get_by_test_id("told")).to_contain_text("The bell is broken")
            await expect(step(page, 5)).to_contain_text("ETA changed")
            await expect(step(page, 5).get_by_test_id("new-times")).to_contain_text(", before ")
            await expect(step(page, 6)).to_have_attribute("data-taken-back", "true")
            await expect(step(page, 6)).to_contain_text("Delivered taken back by a correction")
            await expect(step(page, 7)).to_contain_text("Corrected: Delivered \u2192 In transit")
            await expect(step(page, 7).get_by_test_id("told")).to_have_text(REASON)
            for version in (3, 4, 5, 7):
                await expect(step(page, version)).to_have_attribute("data-taken-back", "false")
            if not again:
                await page.reload()
        await desk.report([checkpoint(order_id, "delayed", due_at=at(seconds=-90))])
        await expect(page.locator("[data-testid=step][data-kind=overdue]")).to_contain_text("It was due")
        await expect(page.get_by_test_id("order-overdue")).to_contain_text("Overdue by")
        await expect(row_of(page, order_id)).to_have_attribute("data-due", "overdue")


async def test_a_closed_order_is_followed_while_it_is_open_here(desk: Desk) -> None:
    order_id, bearer = await delivered_order(desk)
    async with desk.page(f"?active=any&order={order_id}", bearer) as page:
        await stands_at(page, "delivered", 4)
        await desk.report([checkpoint(order_id, "proof_added", message="Signed by the neighbour")])
        await expect(step(page, 5)).to_contain_text("Signed by the neighbour")


async def test_a_checkpoint_is_added_at_any_status(desk: Desk) -> None:
    order_id, bearer = await delivered_order(desk)
    async with desk.page(f"?active=any&order={order_id}", bearer) as page:
        await stands_at(page, "delivered", 4)
        await page.get_by_test_id("action-checkpoint").click()
        form = page.get_by_test_id("checkpoint-form")
        await expect(form.locator("[name=kind]")).to_be_focused()
        await expect(form.locator("[name=message]")).to_have_js_property("required", value=True)
        await form.locator("[name=kind]").select_option("proof_added")
        await expect(form.locator("[name=message]")).to_have_js_property("required", value=False)
        await form.locator("[name=message]").fill("  <b>Signed</b>  ")
        await page.get_by_test_id("checkpoint-send").click()
        await expect(page.get_by_test_id("toast")).to_contain_text(f"{order_id}: Proof added")
        await stands_at(page, "delivered", 5)
        await expect(step(page, 5).get_by_test_id("told")).to_have_text("<b>Signed</b>")
        await expect(page.get_by_test_id("action-checkpoint")).to_be_focused()


async def test_due_time_and_estimate_are_given_in_the_time_zone_of_the_reader(desk: Desk) -> None:
    merchant = new_merchant()
    order_id, bearer = f"{merchant}-1", token(merchants=[merchant])
    await desk.report([creation(order_id, merchant)])
    async with desk.page(f"?order={order_id}", bearer, time_zone="Asia/Kolkata") as page:
        await page.get_by_test_id("action-checkpoint").click()
        form = page.get_by_test_id("checkpoint-form")
        await form.locator("[name=kind]").select_option("eta_changed")
        await form.locator("[name=eta]").fill("2040-03-01T14:05")
        await form.locator("[name=due_at]").fill("2040-03-01T12:00")
        await page.get_by_test_id("checkpoint-send").click()
        await stands_at(page, "created", 2)
        order = await desk.get(f"/v1/orders/{order_id}", bearer)
        assert (order["eta"], order["due_at"]) == ("2040-03-01T08:35:00.000Z", "2040-03-01T06:30:00.000Z")
        await expect(page.get_by_test_id("order-panel").locator(".facts")).to_contain_text("14:05")
        row = row_of(page, order_id)
        await expect(row.locator(".c-due")).to_contain_text("1 Mar, 12:00")
        await expect(row).to_have_attribute("data-due", "at-risk")
        await expect(row.locator(".c-due")).to_contain_text("expected later")


async def test_a_correction_warns_that_it_is_public_and_makes_the_order_active_again(desk: Desk) -> None:
    order_id, bearer = await delivered_order(desk)
    async with desk.page(f"?order={order_id}", bearer) as page:
        await is_live(page)
        await stands_at(page, "delivered", 4)
        await expect(row_of(page, order_id)).to_have_count(0)
        await page.get_by_test_id("action-correct").click()
        form = page.get_by_test_id("correction-form")
        await expect(page.get_by_test_id("correction-warning")).to_contain_text("the customer too")
        await expect(form.locator("select option[value=delivered]")).to_have_count(0)
        await page.get_by_test_id("correction-send").click()  # nothing is chosen: the browser says so
        await stands_at(page, "delivered", 4)
        await form.locator("select").select_option("in_transit")
        await form.locator("[name=reason]").fill(REASON)
        await form.get_by_role("button", name="Correct to in transit").click()
        await stands_at(page, "in_transit", 5)
        await expect(step(page, 5).get_by_test_id("told")).to_have_text(REASON)
        await expect(row_of(page, order_id)).to_be_visible()
        await expect(page.get_by_test_id("action-delivered")).to_be_visible()
        await expect(page.get_by_test_id("action-correct")).to_be_focused()


async def test_a_refused_correction_is_explained_and_stays_as_it_was_typed(desk: Desk) -> None:
    order_id, bearer = await delivered_order(desk)
    async with desk.page(f"?order={order_id}", bearer) as page:
        await stands_at(page, "delivered", 4)
        await page.get_by_test_id("action-correct").click()
        form = page.get_by_test_id("correction-form")
        await form.locator("select").select_option("in_transit")
        await form.locator("[name=reason]").fill(REASON)
        await desk.report([checkpoint(order_id, "note", message="faster")])
        await page.get_by_test_id("correction-send").click()
        problem = page.get_by_test_id("problem")
        await expect(problem).to_have_attribute("data-slug", "version-conflict")
        await expect(problem).to_have_role("alert")
        await expect(form.locator("[name=reason]")).to_have_value(REASON)
        await form.locator("[name=guarded]").uncheck()
        await page.get_by_test_id("correction-send").click()
        await stands_at(page, "in_transit", 6)


@pytest.mark.parametrize(
    ("scope", "shown"),
    [
        ("orders:read", set()),
        ("orders:read orders:write", {"action-checkpoint", "action-cancelled"}),
        ("orders:read orders:correct", {"action-correct"}),
        ("orders:admin", {"action-checkpoint", "action-correct", "action-cancelled"}),
    ],
)
async def test_buttons_are_those_that_the_token_allows(desk: Desk, scope: str, shown: set[str]) -> None:
    merchant = new_merchant()
    await desk.report([creation(f"{merchant}-1", merchant)])
    async with desk.page(f"?order={merchant}-1", token(merchants=[merchant], scope=scope)) as page:
        await stands_at(page, "created", 1)
        for name in ("action-checkpoint", "action-correct", "action-cancelled"):
            await expect(page.get_by_test_id(name)).to_have_count(int(name in shown))


async def test_a_checkpoint_without_an_answer_is_added_once_when_it_is_sent_again(desk: Desk) -> None:
    order_id, bearer = await delivered_order(desk)
    keys: list[str] = []
    away = True

    async def lose(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if away:
            await route.fetch()
            await route.abort()
        else:
            await route.continue_()

    async with desk.page(f"?order={order_id}", bearer) as page:
        await stands_at(page, "delivered", 4)
        await page.route("**/checkpoints", lose)
        await page.get_by_test_id("action-checkpoint").click()
        await page.get_by_test_id("checkpoint-form").locator("[name=message]").fill("Ring twice")
        await page.get_by_test_id("checkpoint-send").click()
        await expect(page.get_by_test_id("problem")).to_contain_text("cannot be reached")
        away = False
        await page.get_by_test_id("checkpoint-send").click()
        await expect(page.get_by_test_id("toast")).to_contain_text("Note")
        await stands_at(page, "delivered", 5)
    assert len(keys) > 1
    assert len(set(keys)) == 1


async def test_a_held_update_is_said_to_wait(desk: Desk) -> None:
    merchant = new_merchant()
    order_id = f"{merchant}-1"
    await desk.report([creation(order_id, merchant)])

    async def hold(route: Route) -> None:
        held = {"update_id": "u-1", "order_id": order_id, "outcome": "held", "version": None}
        await route.fulfill(status=202, json=held, headers={"Access-Control-Allow-Origin": "*"})

    async with desk.page(f"?order={order_id}", token(merchants=[merchant])) as page:
        await page.route("**/v1/orders/*/updates", hold)
        await page.get_by_test_id("action-other").click()
        await page.get_by_test_id("update-form").locator("select").select_option("delivered")
        await page.get_by_test_id("update-send").click()
        await expect(page.get_by_test_id("toast")).to_contain_text("Delivered, held until")
        await stands_at(page, "created", 1)


async def test_the_forms_need_nothing_but_the_keyboard(desk: Desk) -> None:
    order_id, bearer = await delivered_order(desk)
    async with desk.page(f"?order={order_id}", bearer) as page:
        await stands_at(page, "delivered", 4)
        press, focused = page.keyboard.press, page.locator(":focus")

        async def tab_to(test_id: str) -> None:
            for _ in range(40):
                await press("Tab")
                if await page.evaluate("document.activeElement?.dataset.testid") == test_id:
                    return
            raise AssertionError(test_id)

        await tab_to("action-checkpoint")
        await press("Enter")
        await expect(focused).to_have_attribute("name", "kind")
        await press("Escape")
        await expect(focused).to_have_attribute("data-testid", "action-checkpoint")
        await press("Enter")
        await press("Tab")
        await page.keyboard.insert_text("Left with the neighbour")
        await tab_to("checkpoint-send")
        await press("Enter")
        await stands_at(page, "delivered", 5)
        await expect(page.locator("#toasts")).to_have_role("status")
        await expect(focused).to_have_attribute("data-testid", "action-checkpoint")
        await press("Tab")
        await expect(focused).to_have_attribute("data-testid", "action-correct")
        await press("Enter")
        await expect(focused).to_have_attribute("name", "status")
        await press("ArrowDown")
        await press("Tab")
        await page.keyboard.insert_text(REASON)
        await tab_to("correction-send")
        await expect(focused).to_have_text("Correct to created")
        await press("Enter")
        await stands_at(page, "created", 6)
        await press("Escape")
        await expect(page.get_by_test_id("order-panel")).to_be_hidden()


# The customer's page


async def test_a_customer_reads_of_attempts_delays_and_corrections_in_plain_words(desk: Desk) -> None:
    merchant = new_merchant()
    order_id = f"{merchant}-1"
    link = token(sub="c", source_type="customer", scope="orders:read", merchants=[], orders=[order_id])
    await desk.report([creation(order_id, merchant, due_at=at(days=2)), update(order_id, "picked_up")])
    async with desk.page(f"track.html#order={order_id}&token={link}", size=PHONE) as page:
        await is_live(page)
        title, promise = page.get_by_test_id("track-title"), page.get_by_test_id("track-promise")
        await expect(promise).to_contain_text("Expected by")
        await desk.report([checkpoint(order_id, "eta_changed", eta=at(days=3))], sub="dora")
        await expect(promise).to_contain_text("Late: expected at")
        await expect(promise).to_have_attribute("data-late", "true")
        attempted = checkpoint(order_id, "delivery_attempted", message="Nobody at home")
        await desk.report([update(order_id, "in_transit"), attempted], sub="dora")
        await expect(title).to_have_text("We tried to deliver")
        await expect(page.get_by_test_id("track-words")).to_contain_text("Nobody at home")
        await desk.report([update(order_id, "delivered")], sub="dora")
        await expect(title).to_have_text("Delivered")
        await expect(promise).to_be_empty()
        await desk.report([correction(order_id, "in_transit", REASON)], scope=CORRECTOR, sub="dora")
        await expect(title).to_have_text("On its way")
        for again in (False, True):
            mistaken = page.locator("[data-testid=track-step][data-taken-back=true]")
            await expect(mistaken).to_contain_text("Delivered reported by mistake")
            await expect(page.get_by_test_id("track-story")).to_contain_text(REASON)
            if not again:
                await page.reload()
        await desk.report([checkpoint(order_id, "delayed", due_at=at(seconds=-60))], sub="dora")
        await expect(promise).to_contain_text("Late: it was due by")
        await expect(page.get_by_test_id("track-story")).to_contain_text("Later than promised")
        assert "dora" not in await page.locator("body").inner_text()
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
