"""The whole console in a real browser: honest when cut off, usable by everybody, light over the wire."""

from collections.abc import Awaitable, Callable, Iterator
from itertools import product
from time import time
from typing import Any, get_args

import pytest
from axe_playwright_python.async_playwright import Axe
from desk import (
    PHONE,
    WIDE,
    Desk,
    Scheme,
    Traffic,
    checkpoint,
    correction,
    creation,
    first_row,
    is_live,
    new_merchant,
    row_of,
    shows_as_listed,
    update,
)
from playwright.async_api import CDPSession, Page, Route, ViewportSize, expect

from callers import eventually, token

MAX_WIRE_BYTES = 150_000

View = Callable[[Page, Desk], Awaitable[None]]


async def lively(desk: Desk) -> tuple[str, str, list[str]]:
    """A merchant with orders in every status and a refusal: its id, a token for it, and the ids."""
    merchant = new_merchant()
    ids = await desk.create(merchant, 30)
    await desk.report([update(order_id, "picked_up") for order_id in ids[:20]])
    await desk.report([update(order_id, "in_transit") for order_id in ids[:10]])
    await desk.report([update(order_id, "delivered") for order_id in ids[:4]])
    await desk.report([update(order_id, "cancelled") for order_id in ids[10:12]])
    await desk.caller.post("/v1/batch", [update(ids[5], "created")], bearer=token(sub="driver-5"))
    told = [
        checkpoint(ids[6], "delivery_attempted", message="Nobody at home"),
        correction(ids[4], "delivered", "It is there"),
        correction(ids[4], "in_transit", "It is still in the van"),
        checkpoint(ids[4], "delayed", due_at="2026-03-01T08:00:00Z", eta="2026-03-01T09:00:00Z"),
    ]
    await desk.report(told, scope="orders:write orders:correct")
    # A name of its own, too: callers see their own refusals, whatever the merchant.
    scope = "orders:read orders:write orders:correct"
    return (
        merchant,
        token(merchants=[merchant], sub=f"ada-{merchant}", source_type="operator", scope=scope),
        ids,
    )


# Honesty


async def test_when_the_token_ends_the_page_says_so_and_takes_another_one(desk: Desk) -> None:
    merchant, bearer, ids = await lively(desk)
    short = token(merchants=[merchant], sub="ada", exp=time() + 12)
    async with desk.page(bearer=short) as page:
        await is_live(page)
        await expect(page.get_by_test_id("sign-in")).to_be_visible()
        await expect(page.get_by_test_id("sign-in-fault")).to_have_text(
            "Your sign-in has ended. Sign in again."
        )
        await expect(page.get_by_test_id("connection")).to_have_text("Signed out")
        await expect(page.locator("html")).to_have_attribute("data-stale", "true")
        assert await page.evaluate("document.querySelector('#sign-in').matches(':modal')")
        for _ in range(3):
            await page.keyboard.press("Escape")
        await expect(page.get_by_test_id("token-input")).to_be_visible()

        await desk.report([update(ids[20], "picked_up")])
        await page.get_by_test_id("token-input").fill(f"Bearer {bearer}")
        await page.get_by_test_id("sign-in-send").click()
        await is_live(page)
        await expect(page.get_by_test_id("sign-in")).to_be_hidden()
        await expect(row_of(page, ids[20])).to_have_attribute("data-status", "picked_up")


async def test_signing_out_leaves_nothing_of_the_orders_in_the_page(desk: Desk) -> None:
    _, bearer, ids = await lively(desk)
    async with desk.page() as page:
        await page.get_by_test_id("token-input").fill("not a token")
        await page.get_by_test_id("sign-in-send").click()
        await expect(page.get_by_test_id("sign-in-fault")).to_contain_text("not a token")
        await page.get_by_test_id("token-input").fill(f"{bearer[:-4]}AAAA")
        await page.get_by_test_id("sign-in-send").click()
        await expect(page.get_by_test_id("sign-in-fault")).to_contain_text("token")
        await page.get_by_test_id("token-input").fill(bearer)
        await page.get_by_test_id("sign-in-send").click()
        await is_live(page)
        await expect(row_of(page, ids[-1])).to_be_visible()
        await page.get_by_test_id("account").click()
        await page.get_by_test_id("sign-out").click()
        await expect(page.get_by_test_id("sign-in")).to_be_visible()
        await expect(page.get_by_test_id("board-row")).to_have_count(0)
        assert ids[-1] not in await page.content()
        assert bearer not in await page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])")


async def test_a_token_that_may_only_read_is_offered_nothing_to_do(desk: Desk) -> None:
    merchant, _, ids = await lively(desk)
    reader = token(merchants=[merchant], scope="orders:read")
    async with desk.page(f"?order={ids[-1]}", reader) as page:
        await expect(page.get_by_test_id("step")).to_have_count(1)
        await expect(page.get_by_test_id("update")).to_be_hidden()
        await expect(page.get_by_test_id("create")).to_be_hidden()


async def test_on_a_slow_network_the_page_is_live_only_once_it_is(desk: Desk) -> None:
    merchant, bearer, ids = await lively(desk)
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        await slow_down(await page.context.new_cdp_session(page), milliseconds=400, kilobytes_per_second=40)
        await page.reload(wait_until="commit")
        await expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "connecting")
        assert await page.evaluate("document.querySelectorAll('[data-testid=board-row]').length") == 0
        await is_live(page)
        await desk.report([creation(f"{merchant}-slow", merchant), update(ids[-1], "picked_up")])
        await expect(row_of(page, f"{merchant}-slow")).to_be_visible()
        await expect(row_of(page, ids[-1])).to_have_attribute("data-status", "picked_up")
        await shows_as_listed(page, desk, bearer, looks=1)


async def slow_down(session: CDPSession, milliseconds: float, kilobytes_per_second: float) -> None:
    """A network with this delay and speed, for the page of the session."""
    await session.send("Network.enable")
    limits = dict.fromkeys(("downloadThroughput", "uploadThroughput"), kilobytes_per_second * 1000)
    conditions = {"offline": False, "latency": milliseconds, "connectionType": "cellular3g", **limits}
    await session.send("Network.emulateNetworkConditions", conditions)


async def test_without_a_network_the_page_says_so_and_is_whole_again_with_one(desk: Desk) -> None:
    _, bearer, ids = await lively(desk)
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        await page.context.set_offline(True)
        await page.evaluate(
            "dispatchEvent(new Event('offline'))"
        )  # sockets that are open outlive the emulation
        await expect(page.get_by_test_id("stale-banner")).to_contain_text("Not live")
        await desk.report([update(ids[-1], "picked_up")])
        await expect(row_of(page, ids[-1])).to_have_attribute("data-status", "created")
        await page.context.set_offline(False)
        await is_live(page)
        await shows_as_listed(page, desk, bearer, looks=1)
        await expect(page.get_by_test_id("stale-banner")).to_be_hidden()


# Accessibility


async def board(page: Page, desk: Desk) -> None:
    await expect(first_row(page)).to_be_visible()


async def filters(page: Page, desk: Desk) -> None:
    await page.get_by_test_id("filter-button").click()
    await expect(page.get_by_test_id("filter-form")).to_be_visible()


async def saved_views(page: Page, desk: Desk) -> None:
    for name in ("Mornings", "Evenings"):
        await page.get_by_test_id("views-button").click()
        await page.get_by_test_id("view-name").fill(name)
        await page.get_by_test_id("view-save").click()
    await page.get_by_test_id("views-button").click()
    await page.get_by_test_id("view-rename").first.click()


async def several(page: Page, desk: Desk) -> None:
    await page.get_by_test_id("row-box").nth(0).click()
    await page.get_by_test_id("row-box").nth(7).click(modifiers=["Shift"])
    await page.get_by_test_id("bulk-open").click()
    await page.get_by_test_id("bulk").locator("select").select_option("created")
    await page.get_by_test_id("bulk-send").click()
    await expect(page.get_by_test_id("outcome").first).to_be_visible()
    assert await barriers(page) == {}
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("bulk-reasons")).to_be_visible()


async def account(page: Page, desk: Desk) -> None:
    await page.get_by_test_id("account").click()
    await expect(page.get_by_test_id("sign-out")).to_be_visible()


async def creating(page: Page, desk: Desk) -> None:
    await page.get_by_test_id("create").click()
    form = page.get_by_test_id("create-form")
    await form.get_by_role("button", name="Note").click()
    for name in ("merchant_id", "name", "contact_ref"):
        await form.locator(f"[name={name}]").fill("not an identifier")
    await page.get_by_test_id("create-send").click()
    await expect(page.get_by_test_id("problem")).to_be_visible()


async def order(page: Page, desk: Desk) -> None:
    await page.get_by_test_id("count-in_transit").click()
    await first_row(page).click()
    await expect(page.get_by_test_id("step").nth(2)).to_be_visible()


async def refused(page: Page, desk: Desk) -> None:
    await order(page, desk)
    await page.get_by_test_id("action-other").click()
    await page.get_by_test_id("update-form").locator("select").select_option("created")
    await page.get_by_test_id("update-send").click()
    await expect(page.get_by_test_id("problem")).to_be_visible()


async def overdue(page: Page, desk: Desk) -> None:
    await page.get_by_test_id("count-is-overdue").click()
    await first_row(page).click()
    await expect(page.get_by_test_id("order-overdue")).to_be_visible()
    await expect(page.locator("[data-testid=step][data-kind=correction]")).to_have_count(2)


async def adding_a_checkpoint(page: Page, desk: Desk) -> None:
    await order(page, desk)
    await page.get_by_test_id("action-checkpoint").click()
    form = page.get_by_test_id("checkpoint-form")
    await form.locator("[name=message]").fill("Ring twice")
    await form.locator("[name=occurred_at]").fill("2099-01-01T00:00:00")
    await page.get_by_test_id("checkpoint-send").click()
    await expect(page.get_by_test_id("problem")).to_be_visible()


async def correcting(page: Page, desk: Desk) -> None:
    await order(page, desk)
    await page.get_by_test_id("action-correct").click()
    await expect(page.get_by_test_id("correction-warning")).to_be_visible()


async def nothing_found(page: Page, desk: Desk) -> None:
    await page.get_by_test_id("search").fill("nobody-has-this")
    await expect(page.get_by_test_id("board-empty")).to_contain_text("No orders here")


async def overview(page: Page, desk: Desk) -> None:
    await page.get_by_test_id("to-overview").click()
    await expect(page.get_by_test_id("refusals").locator("strong").first).to_be_visible()
    await expect(page.get_by_test_id("legs").locator("li").first).to_be_visible()


async def cut_off(page: Page, desk: Desk) -> None:
    await page.context.set_offline(True)
    await page.evaluate("dispatchEvent(new Event('offline'))")
    await expect(page.get_by_test_id("stale-banner")).to_be_visible()


async def signed_out(page: Page, desk: Desk) -> None:
    await page.evaluate("sessionStorage['tracking.token'] = 'a.b.c'")
    await page.reload()
    await expect(page.get_by_test_id("sign-in-fault")).not_to_be_empty()


VIEWS = (
    board,
    filters,
    saved_views,
    several,
    account,
    creating,
    order,
    refused,
    overdue,
    adding_a_checkpoint,
    correcting,
    nothing_found,
    overview,
    cut_off,
    signed_out,
)


@pytest.fixture(scope="module")
async def looked_at(desk: Desk) -> str:
    """A token for a merchant with something in every view."""
    _, bearer, _ = await lively(desk)
    return bearer


ON_A_PHONE = (board, filters, order, refused, correcting, overview)
"""The views that a phone lays out in another way. The slow tests look at all."""


def looks() -> Iterator[Any]:
    """Each view, size and scheme; most of the unusual ones are slow."""
    for view in VIEWS:
        for size, scheme in product((WIDE, PHONE), get_args(Scheme)):
            usual = scheme == "light" if size == WIDE else scheme == "dark" and view in ON_A_PHONE
            name = f"{view.__name__}-{'wide' if size == WIDE else 'phone'}, {scheme}"
            yield pytest.param(view, size, scheme, id=name, marks=() if usual else pytest.mark.slow)


@pytest.mark.parametrize(("view", "size", "scheme"), list(looks()))
async def test_no_view_has_a_barrier_that_can_be_found(
    desk: Desk, looked_at: str, view: View, size: ViewportSize, scheme: Scheme
) -> None:
    async with desk.page(bearer=looked_at, size=size, scheme=scheme) as page:
        await is_live(page)
        await view(page, desk)
        assert await barriers(page) == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_customers_page_has_no_barrier_that_can_be_found(desk: Desk, scheme: Scheme) -> None:
    _, _, ids = await lively(desk)
    for number in (0, 4, 5, 6, 10):  # delivered, overdue, under way, attempted, cancelled
        narrowed = token(scope="orders:read", merchants=[], orders=[ids[number]], source_type="customer")
        async with desk.page(f"track.html#order={ids[number]}&token={narrowed}", None, PHONE, scheme) as page:
            await expect(page.get_by_test_id("track-step").nth(1)).to_be_visible()
            assert await barriers(page) == {}


async def barriers(page: Page) -> dict[str, str]:
    """What the engine finds, by rule."""
    violations = (await Axe().run(page)).response["violations"]
    return {
        violation["id"]: "; ".join(
            f"{node['html'][:200]}: {node['failureSummary']}" for node in violation["nodes"][:3]
        )
        for violation in violations
    }


# The other direction, the weight, the figures


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
async def test_from_right_to_left_everything_is_mirrored_and_nothing_sticks_out(
    desk: Desk, size: ViewportSize
) -> None:
    _, bearer, _ = await lively(desk)
    for view in (board, order, overview):
        async with desk.page(bearer=bearer, size=size) as page:
            await page.evaluate("document.documentElement.dir = 'rtl'")
            await is_live(page)
            await view(page, desk)
            brand, nav = [await page.locator(part).first.bounding_box() for part in (".brand", ".views")]
            assert brand is not None
            assert nav is not None
            assert brand["x"] > nav["x"]
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("address", ["", "track.html"])
async def test_the_page_is_light_over_the_wire(desk: Desk, address: str) -> None:
    async with desk.page(address) as page:
        session = await page.context.new_cdp_session(page)
        await session.send("Network.enable")
        await session.send("Network.setCacheDisabled", {"cacheDisabled": True})
        files: set[str] = set()
        received: dict[str, float] = {}

        def note(event: dict[str, Any]) -> None:
            if "/console/" in event["response"]["url"]:
                files.add(event["requestId"])

        session.on("Network.responseReceived", note)
        session.on(
            "Network.loadingFinished",
            lambda event: received.update({event["requestId"]: event["encodedDataLength"]}),
        )
        await page.reload(wait_until="networkidle")
        assert len(files) > 8
        assert sum(received.get(name, 0) for name in files) < MAX_WIRE_BYTES


async def test_the_overview_counts_what_happens(desk: Desk) -> None:
    merchant, bearer, ids = await lively(desk)
    async with desk.page("?view=overview", bearer) as page:
        await is_live(page)
        await expect(page.get_by_test_id("tile-open")).to_have_text("24")
        await expect(page.get_by_test_id("tile-refused")).to_have_text("1")
        await expect(page.get_by_test_id("tile-delivered")).to_have_text("4")
        await expect(page.get_by_test_id("refusals")).to_contain_text("invalid transition")
        listed = await desk.listed(bearer, active="true", sort="created_at")
        oldest = page.get_by_test_id("oldest").locator("a")
        await expect(oldest).to_have_count(8)
        shown = [await link.get_attribute("data-order-id") for link in await oldest.all()]
        assert shown == [order["order_id"] for order in listed[:8]]
        async with Traffic(desk, merchant, ids[20:]).flowing(20):
            await expect(page.get_by_test_id("tile-commit-to-screen")).to_contain_text("ms")
            seen = "() => Number(document.querySelector('[data-testid=tile-throughput]').textContent) > 0"
            await eventually(lambda: page.evaluate(seen))
        await page.get_by_role("button", name="24 hours").click()
        await expect(page.get_by_role("img", name="Open orders by status")).to_be_visible()


async def test_the_readers_choice_of_colours_is_kept(desk: Desk) -> None:
    _, bearer, _ = await lively(desk)
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        await page.get_by_test_id("account").click()
        light = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        for _ in range(2):  # light, dark
            await page.get_by_test_id("theme-switch").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await page.reload()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        assert await page.evaluate("getComputedStyle(document.body).backgroundColor") != light


# Parts of the page that cannot be loaded at first.


async def refuse_at_first(page: Page, part: str, times: int = 1) -> None:
    """The first requests for this file are answered 503, the others as always."""
    statuses = iter([503] * times)

    async def answer(route: Route) -> None:
        status = next(statuses, None)
        await (route.continue_() if status is None else route.fulfill(status=status))

    await page.route(f"**/{part}", answer)


# A module is asked for twice: ahead, as the page says, and when it is imported.
@pytest.mark.parametrize(("part", "times"), [("config.json", 2), ("format.js", 2), ("app.css", 1)])
async def test_a_part_that_cannot_be_loaded_is_said_and_tried_again(
    desk: Desk, part: str, times: int
) -> None:
    _, bearer, ids = await lively(desk)
    async with desk.page("favicon.svg", bearer) as page:
        await refuse_at_first(page, part, times)
        await page.goto(desk.console)
        await expect(page.get_by_test_id("load-fault")).to_contain_text("tried again")
        await is_live(page)
        await expect(page.get_by_test_id("load-fault")).to_be_hidden()
        await expect(row_of(page, ids[-1])).to_be_visible()


async def test_a_customers_page_without_its_configuration_says_so_and_goes_on_by_itself(desk: Desk) -> None:
    _, _, ids = await lively(desk)
    narrowed = token(scope="orders:read", merchants=[], orders=[ids[0]], source_type="customer")
    async with desk.page("favicon.svg", size=PHONE) as page:
        await refuse_at_first(page, "config.json")
        await page.goto(f"{desk.console}track.html#order={ids[0]}&token={narrowed}")
        await expect(page.get_by_test_id("load-fault")).to_contain_text("tried again")
        await is_live(page)
