"""One order in a real browser: its timeline, acting on it, and text from strangers that must stay text."""

import pytest
from desk import PHONE, Desk, creation, is_live, new_merchant, row_of, update
from playwright.async_api import Page, expect

from callers import token

NASTY = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'`{{7*7}}&amp;\u202e"
NASTY_KEY = "<svg onload=alert(3)>"


async def one_order(desk: Desk, **more: object) -> tuple[str, str]:
    """A new order of a new merchant, and the merchant."""
    merchant = new_merchant()
    await desk.report([creation(f"{merchant}-1", merchant, **more)])
    return f"{merchant}-1", merchant


async def test_an_order_is_created_and_moved_from_the_console(desk: Desk) -> None:
    merchant = new_merchant()
    async with desk.page(bearer=token(merchants=[merchant], sub="ada", source_type="operator")) as page:
        await is_live(page)
        await page.get_by_test_id("create").click()
        form = page.get_by_test_id("create-form")
        await expect(form.locator("[name=merchant_id]")).to_be_focused()
        await form.locator("[name=merchant_id]").fill(merchant)
        await form.locator("[name=order_id]").fill(f"{merchant}-mine")
        await form.locator("[name=name]").fill("Grace Hopper")
        await form.locator("[name=contact_ref]").fill("crm-7")
        await form.get_by_role("button", name="Note").click()
        await form.get_by_label("Name of the note").fill("channel")
        await form.get_by_label("Note", exact=True).fill("telephone")
        await page.get_by_test_id("create-send").click()

        await stands_at(page, "created", version=1)
        await expect(page.get_by_test_id("order-title")).to_have_text(f"{merchant}-mine")
        await expect(page.get_by_test_id("order-panel")).to_contain_text("channel telephone")
        await page.get_by_test_id("action-picked_up").click()
        await page.get_by_test_id("update-send").click()
        await stands_at(page, "picked_up", version=2)
        await expect(page.get_by_test_id("step").first).to_contain_text("ada")
        await expect(row_of(page, f"{merchant}-mine")).to_have_attribute("data-status", "picked_up")


async def stands_at(page: Page, status: str, version: int) -> None:
    """Returns when the open order is shown so."""
    panel = page.get_by_test_id("order-panel")
    await expect(panel).to_have_attribute("data-version", str(version))
    await expect(panel).to_have_attribute("data-status", status)
    await expect(page.get_by_test_id("step")).to_have_count(version)


async def test_a_refused_update_is_explained_and_stands_beside_the_accepted_ones(desk: Desk) -> None:
    order_id, merchant = await one_order(desk)
    async with desk.page(f"?order={order_id}", token(merchants=[merchant])) as page:
        await page.get_by_test_id("action-other").click()
        await page.get_by_test_id("update-form").locator("select").select_option("delivered")
        await page.get_by_test_id("update-send").click()
        problem = page.get_by_test_id("problem")
        await expect(problem).to_have_attribute("data-slug", "invalid-transition")
        for told in ("It stands at", "Created", "You asked for", "Delivered", "It may become", "trace"):
            await expect(problem).to_contain_text(told)
        await expect(page.get_by_test_id("refusal")).to_have_attribute("data-slug", "invalid-transition")
        await stands_at(page, "created", version=1)


async def test_the_buttons_of_a_form_name_what_they_do(desk: Desk) -> None:
    order_id, merchant = await one_order(desk)
    async with desk.page(f"?order={order_id}", token(merchants=[merchant])) as page:
        await page.get_by_test_id("action-cancelled").click()
        form = page.get_by_test_id("update-form")
        await expect(form.get_by_role("button", name="Cancel", exact=True)).to_have_count(0)
        await form.get_by_role("button", name="Keep it as it is").click()
        await stands_at(page, "created", version=1)
        await page.get_by_test_id("action-cancelled").click()
        await form.get_by_role("button", name="Cancel this order").click()
        await stands_at(page, "cancelled", version=2)


async def test_an_update_that_somebody_was_faster_with_is_refused(desk: Desk) -> None:
    order_id, merchant = await one_order(desk)
    async with desk.page(f"?order={order_id}", token(merchants=[merchant])) as page:
        await is_live(page)
        await page.get_by_test_id("action-cancelled").click()
        await desk.report([update(order_id, "picked_up")])
        await stands_at(page, "picked_up", version=2)
        await page.get_by_test_id("update-send").click()
        await expect(page.get_by_test_id("problem")).to_have_attribute("data-slug", "version-conflict")
        await stands_at(page, "picked_up", version=2)


async def test_what_cannot_be_is_explained_field_by_field(desk: Desk) -> None:
    async with desk.page(bearer=token()) as page:
        await is_live(page)
        await page.get_by_test_id("create").click()
        form = page.get_by_test_id("create-form")
        await form.locator("[name=merchant_id]").fill("no spaces here")
        await form.locator("[name=name]").fill(NASTY)
        await form.locator("[name=contact_ref]").fill(NASTY)
        await page.get_by_test_id("create-send").click()
        await expect(page.get_by_test_id("problem")).to_have_attribute("data-slug", "validation-failed")
        await expect(page.get_by_test_id("problem")).to_contain_text("/merchant_id")


async def test_an_order_is_live_while_it_is_open_and_its_link_opens_it_again(desk: Desk) -> None:
    order_id, merchant = await one_order(desk)
    async with desk.page(f"?order={order_id}", token(merchants=[merchant])) as page:
        await is_live(page)
        await stands_at(page, "created", version=1)
        await desk.report([update(order_id, "picked_up", occurred_at="2026-03-01T12:00:00.000Z")], sub="dora")
        await stands_at(page, "picked_up", version=2)
        step = page.get_by_test_id("step").first
        for told in ("dora", "happened", "received", "recorded", "after"):
            await expect(step).to_contain_text(told)
        await page.reload()
        await stands_at(page, "picked_up", version=2)


async def test_an_order_that_is_not_there_is_said_to_be_missing(desk: Desk) -> None:
    order_id, _ = await one_order(desk)
    async with desk.page(f"?order={order_id}", token(merchants=["m-other"])) as page:
        await expect(page.get_by_test_id("order-missing")).to_contain_text("No such order")


# Text from strangers. That nothing of it runs, and no policy had to stop it, is seen by each page's watch.


async def nasty_order(desk: Desk) -> tuple[str, str]:
    """An order with markup in every field that holds free text, and a refused attempt with it."""
    merchant = new_merchant()
    metadata = {NASTY_KEY: NASTY, "__proto__": NASTY, "nested": {"constructor": [NASTY]}}
    customer = {"name": NASTY, "contact_ref": NASTY}
    order_id = f"{merchant}:constructor"
    operation = creation(order_id, merchant, customer=customer, metadata=metadata)
    await desk.report([operation], sub="constructor")
    refused = update(order_id, "delivered", metadata=metadata)
    answer = await desk.caller.post("/v1/batch", [refused], bearer=token(sub="toString"))
    assert answer.body["results"][0]["outcome"] == "rejected"
    return order_id, merchant


async def test_markup_in_any_field_is_shown_as_the_text_that_it_is(desk: Desk) -> None:
    order_id, merchant = await nasty_order(desk)
    async with desk.page(f"?order={order_id}", token(merchants=[merchant])) as page:
        await is_live(page)
        row = row_of(page, order_id)
        await expect(row).to_contain_text(NASTY)
        panel = page.get_by_test_id("order-panel")
        for text in (NASTY, f"{NASTY_KEY} {NASTY}", f"__proto__ {NASTY}", "constructor"):
            await expect(panel).to_contain_text(text)
        await expect(page.get_by_test_id("refusal")).to_contain_text("toString")
        await desk.report([update(order_id, "picked_up", metadata={NASTY_KEY: "<b>later</b>"})])
        await stands_at(page, "picked_up", version=2)
        await expect(panel).to_contain_text("<b>later</b>")
        assert await page.locator("img, main script, main iframe, main svg[onload]").count() == 0


async def test_markup_that_is_typed_into_the_forms_comes_back_as_text(desk: Desk) -> None:
    order_id, merchant = await one_order(desk)
    async with desk.page(f"?order={order_id}", token(merchants=[merchant])) as page:
        await is_live(page)
        await page.get_by_test_id("action-picked_up").click()
        form = page.get_by_test_id("update-form")
        await form.get_by_role("button", name="Note").click()
        await form.get_by_label("Name of the note").fill(NASTY_KEY)
        await form.get_by_label("Note", exact=True).fill(NASTY)
        await page.get_by_test_id("update-send").click()
        await stands_at(page, "picked_up", version=2)
        await expect(page.get_by_test_id("step").first).to_contain_text(f"{NASTY_KEY} {NASTY}")


@pytest.mark.parametrize("name", ["q", "order", "status", "merchant_id", "customer_ref", "view", "sort"])
async def test_markup_in_the_address_is_no_more_than_a_filter(desk: Desk, name: str) -> None:
    async with desk.page(
        f"?{name}=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E", token(merchants=["m-0"])
    ) as page:
        await is_live(page)
        await expect(page.get_by_test_id("board-empty")).to_be_attached()
        assert await page.locator("img").count() == 0


async def test_names_that_every_object_has_are_orders_and_merchants_like_others(desk: Desk) -> None:
    merchants = ["constructor", "toString", "hasOwnProperty"]
    ids = [f"{merchant}-{new_merchant()}" for merchant in merchants]
    operations = [creation(order_id, merchant) for order_id, merchant in zip(ids, merchants, strict=True)]
    await desk.report(operations)
    async with desk.page("?merchant_id=constructor", token(merchants=merchants)) as page:
        await is_live(page)
        await expect(row_of(page, ids[0])).to_be_visible()
        await expect(row_of(page, ids[1])).to_have_count(0)


# The customer's page


def narrowed(order_id: str) -> str:
    """A customer's token, as the guide says to make one."""
    return token(
        sub="customer-1", source_type="customer", scope="orders:read", merchants=[], orders=[order_id]
    )


async def test_a_customer_follows_the_order_and_sees_nobodys_name(desk: Desk) -> None:
    customer = {"name": "Ada Lovelace", "contact_ref": "+44 20 7946 0958"}
    order_id, _ = await one_order(desk, customer=customer, metadata={"note": "ring twice"})
    address = f"track.html#order={order_id}&token={narrowed(order_id)}"
    async with desk.page(address, size=PHONE) as page:
        await is_live(page)
        await expect(page.get_by_test_id("track-title")).to_have_text("We have your order")
        for status in ("picked_up", "in_transit", "in_transit", "delivered"):
            await desk.report([update(order_id, status, metadata={"place": "hub 9"})], sub="dora")
        await expect(page.get_by_test_id("track-step")).to_have_count(5)
        await expect(page.get_by_test_id("track-page")).to_have_attribute("data-status", "delivered")
        text = await page.locator("body").inner_text()
        for private in ("Ada", "Lovelace", "+44", "dora", "ring twice", "hub 9", "caller"):
            assert private not in text
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await page.reload()
        await expect(page.get_by_test_id("track-step")).to_have_count(5)
        bookmark = page.url
    async with desk.page(bookmark.removeprefix(desk.console), size=PHONE) as page:
        await expect(page.get_by_test_id("track-step")).to_have_count(5)


async def test_a_link_to_another_order_or_to_none_says_so(desk: Desk) -> None:
    order_id, _ = await one_order(desk)
    other, _ = await one_order(desk)
    async with desk.page(f"track.html#order={other}&token={narrowed(order_id)}", size=PHONE) as page:
        await expect(page.get_by_test_id("track-title")).to_have_text("We cannot find this order")
    async with desk.page("track.html", size=PHONE) as page:
        await expect(page.get_by_test_id("track-title")).to_have_text("There is no order in this link")
    async with desk.page("track.html#order=%3Cimg src=x onerror=alert(1)%3E&token=a.b.c", size=PHONE) as page:
        await expect(page.get_by_test_id("track-title")).to_have_text("This link has expired")


# The timeline: versions are its order, whatever the times say.


async def test_steps_recorded_in_the_same_millisecond_stand_in_the_order_of_their_versions(
    desk: Desk,
) -> None:
    order_id, merchant = await one_order(desk)
    scans = [update(order_id, status) for status in ("picked_up", *["in_transit"] * 20, "delivered")]
    await desk.report(scans)
    bearer = token(merchants=[merchant])
    await desk.caller.post("/v1/batch", [update(order_id, "picked_up")], bearer=bearer)
    async with desk.page(f"?order={order_id}", bearer) as page:
        panel = page.get_by_test_id("order-panel")
        await expect(panel).to_have_attribute("data-version", "23")
        await expect(panel).to_have_attribute("data-status", "delivered")
        await expect(page.get_by_test_id("refusal")).to_have_count(1)
        group = page.get_by_test_id("step-group")
        await expect(group).to_contain_text("In transit \u00d7 20")
        await expect(page.get_by_test_id("step")).to_have_count(3)
        await page.get_by_test_id("group-toggle").click()
        await stands_at(page, "delivered", version=23)
        versions = await page.get_by_test_id("step").evaluate_all(
            "(steps) => steps.map((step) => Number(step.dataset.version))"
        )
        assert versions == list(range(23, 0, -1))
        first = page.get_by_test_id("timeline").locator("li.step").first
        await expect(first).to_have_attribute("data-testid", "refusal")


TURNING = ("a\u202eb\u2067c", "a\u2069\u202eb", "\u2068\u2067\u2067\u2069\u202ea", "\u202ea")
"""Overrides and isolates that are not closed, and ends of isolates that were not begun."""

_UNISOLATED = """
() => [...document.body.querySelectorAll("*")]
  .filter((element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
  .filter((element) => !["SCRIPT", "STYLE", "NOSCRIPT"].includes(element.tagName))
  .filter((element) => !["isolate", "plaintext"].includes(getComputedStyle(element).unicodeBidi))
  .map((element) => element.outerHTML.slice(0, 100))
"""

_LETTERS_RUN_ON = """
(item) => {
  const text = item.lastChild;
  const left = (at) => {
    const range = document.createRange();
    range.setStart(text, at);
    range.setEnd(text, at + 1);
    return range.getBoundingClientRect().left;
  };
  return left(0) < left(text.data.length - 1);
}
"""


async def test_no_text_turns_what_is_around_it(desk: Desk) -> None:
    customer = {"name": TURNING[0], "contact_ref": TURNING[1]}
    metadata = dict.fromkeys(TURNING, "value")
    order_id, merchant = await one_order(desk, customer=customer, metadata=metadata)
    async with desk.page(f"?order={order_id}", token(merchants=[merchant], sub="ada")) as page:
        await stands_at(page, "created", version=1)
        values = page.get_by_test_id("order-panel").locator("li:has(> span)", has_text="value")
        runs_on = [await value.evaluate(_LETTERS_RUN_ON) for value in await values.all()]
        assert len(runs_on) >= len(TURNING)
        assert all(runs_on), runs_on
        await expect(page.locator("#who span")).to_have_text("ada")
        assert await page.evaluate(_UNISOLATED) == []
    address = f"track.html#order={order_id}&token={narrowed(order_id)}"
    async with desk.page(address, size=PHONE) as page:
        await is_live(page)
        assert await page.evaluate(_UNISOLATED) == []
