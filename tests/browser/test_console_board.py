"""The live board in a real browser: thousands of orders, a stream of changes, and readers in the middle."""

import asyncio
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from desk import (
    Desk,
    Traffic,
    counts_shown,
    creation,
    is_live,
    new_merchant,
    row_of,
    rows,
    scroll_to,
    shows_as_listed,
    update,
)
from playwright.async_api import Page, Route, WebSocketRoute, expect

from callers import eventually, token

ORDERS = 5000
EVENTS_PER_SECOND = 50
SEEN_LIVE = 200
UNKNOWN = "\N{EN DASH}"
ROW_PX = 38
MAX_ROWS_IN_PAGE = 80
"""What a high screen shows and some more: not thousands."""


@pytest.fixture(scope="module")
async def busy(desk: Desk) -> tuple[str, list[str]]:
    """A merchant with thousands of open orders."""
    merchant = new_merchant()
    return merchant, await desk.create(merchant, ORDERS)


async def test_a_board_of_thousands_is_what_the_api_lists_after_a_stream_of_changes(
    desk: Desk, busy: tuple[str, list[str]]
) -> None:
    merchant, orders = busy
    bearer = token(merchants=[merchant])
    traffic = Traffic(desk, merchant, orders)
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        async with traffic.flowing(EVENTS_PER_SECOND):
            seen = f"performance.getEntriesByName('commit-to-screen').length >= {SEEN_LIVE}"
            await eventually(lambda: page.evaluate(seen))
            for top in (40_000, 120_000, 5_000, 0):
                await scroll_to(page, top)
                assert 0 < len(await rows(page)) <= MAX_ROWS_IN_PAGE
        await shows_as_listed(page, desk, bearer)


async def test_after_the_notifier_was_killed_the_board_catches_up_with_what_happened_meanwhile(
    desk: Desk, busy: tuple[str, list[str]]
) -> None:
    merchant, _ = busy
    bearer = token(merchants=[merchant])
    waiting = await desk.listed(bearer, status="created")
    missed = [update(order["order_id"], "picked_up") for order in waiting[:400]]
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        before = await page.get_by_test_id("count-picked_up").inner_text()
        await desk.services["notifier"].kill()
        try:
            await says_that_it_is_old(page)
            await desk.report(missed)
            assert await page.get_by_test_id("count-picked_up").inner_text() == before
        finally:
            await desk.services["notifier"].start()
        await is_live(page)
        await expect(page.get_by_test_id("stale-banner")).to_be_hidden()
        await expect(page.locator("html")).to_have_attribute("data-stale", "false")
        await shows_as_listed(page, desk, bearer)


async def says_that_it_is_old(page: Page) -> None:
    """Returns when nobody can take what is on the screen for what is true now."""
    await expect(page.locator("html")).to_have_attribute("data-stale", "true")
    await expect(page.get_by_test_id("stale-banner")).to_contain_text("Not live")
    await expect(page.get_by_test_id("connection")).to_contain_text("Reconnecting in")


# The reader's place


async def screenful(desk: Desk) -> tuple[str, str, list[str]]:
    """A merchant with some screens full of orders: its id, a token for it, and the ids as they are listed."""
    merchant = new_merchant()
    bearer = token(merchants=[merchant])
    await desk.create(merchant, 150)
    return merchant, bearer, [order["order_id"] for order in await desk.listed(bearer)]


async def test_rows_that_arrive_do_not_push_what_a_reader_looks_at(desk: Desk) -> None:
    merchant, bearer, _ = await screenful(desk)
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        await scroll_to(page, 1500)
        before = await in_view(page)
        await desk.report([creation(f"{merchant}-later-{number}", merchant) for number in range(20)])
        await expect(page.get_by_test_id("new-pill")).to_contain_text("20 new")
        assert await in_view(page) == before
        await page.get_by_test_id("new-pill").click()
        await expect(row_of(page, f"{merchant}-later-19")).to_be_in_viewport()
        await expect(page.get_by_test_id("new-pill")).to_be_hidden()
        await shows_as_listed(page, desk, bearer)


async def test_rows_that_arrive_do_not_move_the_row_under_the_pointer(desk: Desk) -> None:
    merchant, bearer, _ = await screenful(desk)
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        await page.mouse.move(600, 400)
        await page.mouse.move(601, 401)
        before = await in_view(page)
        await desk.report([creation(f"{merchant}-later-{number}", merchant) for number in range(3)])
        await expect(page.get_by_test_id("new-pill")).to_contain_text("3 new")
        assert await in_view(page) == before
        await page.mouse.move(5, 5)
        await expect(row_of(page, f"{merchant}-later-2")).to_be_in_viewport()


async def in_view(page: Page) -> list[tuple[str, int]]:
    """The orders whose rows are seen, and where, once the view is full: it is filled over several frames."""

    async def seen() -> list[tuple[str, int]]:
        found = [(row["order_id"], row["top"]) for row in await rows(page) if 40 < row["top"] < 700]
        return found if len(found) >= (700 - 40) // ROW_PX else []

    found: list[tuple[str, int]] = await eventually(seen)
    return found


async def test_a_row_changes_in_place_and_an_order_that_closes_leaves(desk: Desk) -> None:
    _, bearer, ids = await screenful(desk)
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        await desk.report([update(ids[3], "picked_up")])
        await expect(row_of(page, ids[3])).to_have_attribute("data-status", "picked_up")
        await desk.report([update(ids[3], "cancelled")])
        await expect(row_of(page, ids[3])).to_have_count(0)
        await counts_are(page, {"open": 149, "created": 149, "picked_up": 0, "cancelled": 1})


async def test_an_order_that_closes_keeps_its_place_as_long_as_a_reader_is_in_the_list(desk: Desk) -> None:
    _, bearer, _ = await screenful(desk)
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        await scroll_to(page, 400)
        before = await in_view(page)
        closing, _ = before[5]
        await desk.report([update(closing, "cancelled")])
        await expect(row_of(page, closing)).to_have_attribute("data-leaving", "true")
        await counts_are(page, {"open": 149, "cancelled": 1})
        assert await in_view(page) == before
        await scroll_to(page, 0)
        await expect(page.get_by_test_id("board")).to_have_attribute("aria-rowcount", "150")
        await expect(row_of(page, closing)).to_have_count(0)


async def test_an_order_that_has_just_closed_is_like_others_where_closed_ones_are_shown(desk: Desk) -> None:
    _, bearer, ids = await screenful(desk)
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        newest = ids[0]
        await desk.report([update(newest, "cancelled")])
        await expect(row_of(page, newest)).to_have_attribute("data-leaving", "true")
        await page.get_by_test_id("count-cancelled").click()
        await expect(page.get_by_test_id("board")).to_have_attribute("aria-rowcount", "2")
        await expect(row_of(page, newest)).to_have_attribute("data-leaving", "false")


async def test_what_closes_while_the_figures_of_today_are_on_their_way_is_counted_once(desk: Desk) -> None:
    """A busy service answers late: until then they are a dash, and board and overview wait for one answer."""
    _, bearer, ids = await screenful(desk)
    asked: list[str] = []
    answered = asyncio.Event()

    async def late(route: Route) -> None:
        asked.append(route.request.url)
        await answered.wait()
        await route.continue_()

    async def is_asked() -> bool:
        return len(asked) == 1

    async with desk.page(bearer=bearer) as page:
        await counts_are(page, {"open": 150, "cancelled": 0})  # what this load has asked is answered
        await page.route("**/v1/reports/created-and-closed*", late)
        await page.reload()
        await is_live(page)
        await eventually(is_asked)
        await desk.report([update(ids[3], "cancelled")])
        await expect(row_of(page, ids[3])).to_have_count(0)
        await expect(page.get_by_test_id("count-cancelled")).to_contain_text(UNKNOWN)
        async with page.expect_response("**/v1/reports/created-and-closed*"):
            answered.set()
        await desk.report([update(ids[4], "cancelled")])
        await counts_are(page, {"open": 148, "created": 148, "cancelled": 2, "delivered": 0})
        await page.get_by_test_id("to-overview").click()
        await expect(page.get_by_test_id("tile-delivered")).to_have_text("0")
        assert len(asked) == 1


async def test_counts_are_a_dash_while_they_are_not_known(desk: Desk) -> None:
    """The list is there before the stream has brought everything, and the figures of today are refused."""
    _, bearer, ids = await screenful(desk)

    async def refused(route: Route) -> None:
        problem = {"type": "/problems/forbidden", "status": 403, "detail": "Not for this token."}
        await route.fulfill(status=403, json=problem, content_type="application/problem+json")

    async with desk.page(bearer=bearer) as page:
        await page.route("**/v1/reports/created-and-closed*", refused)
        streaming = asyncio.Event()
        sockets: list[WebSocketRoute] = []

        async def silent(socket: WebSocketRoute) -> None:
            sockets.append(socket)
            await streaming.wait()
            socket.connect_to_server()

        await page.route_web_socket("**/v1/stream*", silent)
        await page.reload()
        await expect(row_of(page, ids[0])).to_be_visible()
        for name in ("open", "created", "picked_up", "delivered"):
            await expect(page.get_by_test_id(f"count-{name}").locator(".chip-count")).to_have_text(UNKNOWN)
        streaming.set()
        await is_live(page)
        await counts_are(page, {"open": 150, "created": 150, "picked_up": 0})
        delivered = page.get_by_test_id("count-delivered")
        await expect(delivered).to_have_attribute("title", "Not known: Not for this token.")
        await expect(delivered.locator(".chip-count")).to_have_text(UNKNOWN)


async def counts_are(page: Page, wanted: dict[str, int]) -> None:
    async def shown() -> bool:
        return await counts_shown(page, list(wanted)) == wanted

    await eventually(shown)


# What is asked for


async def test_filters_are_in_the_address_and_survive_a_reload_and_the_way_back(desk: Desk) -> None:
    merchant, bearer, ids = await screenful(desk)
    await desk.report([update(order_id, "picked_up") for order_id in ids[:5]])
    await desk.report([update(order_id, "cancelled") for order_id in ids[:2]])
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        await page.get_by_test_id("count-picked_up").click()
        await expect(page).to_have_url(f"{desk.console}?status=picked_up")
        await shows_only(page, ids[2:5])
        await page.reload()
        await shows_only(page, ids[2:5])
        await expect(page.get_by_test_id("count-picked_up")).to_have_attribute("aria-pressed", "true")

        await page.goto(f"{desk.console}?active=any&merchant_id={merchant}&customer_ref=crm-{ids[0]}")
        await shows_only(page, ids[:1])
        await page.goto(f"{desk.console}?active=false&sort=created_at")
        await shows_only(page, ids[:2])
        await page.go_back()
        await shows_only(page, ids[:1])


async def test_what_closed_today_is_opened_as_it_was_counted(desk: Desk) -> None:
    merchant, bearer, ids = await screenful(desk)
    await desk.report([update(order_id, "cancelled") for order_id in ids[:3]])
    async with desk.page(f"?merchant_id={merchant}&sort=created_at", bearer) as page:
        await is_live(page)
        await counts_are(page, {"cancelled": 3})
        chip = page.get_by_test_id("count-cancelled")
        await chip.click()
        await shows_only(page, ids[:3])
        await expect(chip).to_have_attribute("aria-pressed", "true")
        midnight = await page.evaluate("new Date(new Date().setHours(0, 0, 0, 0)).toISOString()")
        asked = parse_qs(urlsplit(page.url).query)
        assert asked == {
            "status": ["cancelled"],
            "merchant_id": [merchant],
            "closed_from": [midnight],
            "sort": ["created_at"],
        }
        await counts_are(page, {"cancelled": 3})
        await page.get_by_test_id("search").fill(ids[1])
        await shows_only(page, ids[1:2])
        await expect(chip.locator(".chip-count")).to_have_text(UNKNOWN)
        await page.get_by_test_id("search").fill("")
        await chip.click()
        await expect(page).to_have_url(f"{desk.console}?merchant_id={merchant}&sort=created_at")


async def test_a_bookmark_that_asks_for_what_is_not_there_says_so(desk: Desk) -> None:
    merchant, bearer, ids = await screenful(desk)
    bad = "status=deliverd&updated_from=yesterday&sort=-age&active=maybe"
    async with desk.page(f"?merchant_id={merchant}&{bad}", bearer) as page:
        await is_live(page)
        fault = page.get_by_test_id("address-fault")
        for part in ("status “deliverd”", "updated_from “yesterday”", "sort “-age”", "active “maybe”"):
            await expect(fault).to_contain_text(part)
        await expect(row_of(page, ids[0])).to_be_visible()
        await fault.get_by_role("button", name="Drop it").click()
        await expect(page).to_have_url(f"{desk.console}?merchant_id={merchant}")
        await expect(fault).to_be_hidden()


async def test_a_search_finds_any_order_open_or_closed_by_the_beginning_of_what_it_is_known_by(
    desk: Desk,
) -> None:
    merchant, bearer, ids = await screenful(desk)
    open_one, closed_one = f"{merchant}-open", f"{merchant}-closed"
    for order_id, name in ((open_one, "Zoë Grün"), (closed_one, "Zoé Müller-Łukasz")):
        customer = {"name": name, "contact_ref": f"tel {order_id}"}
        await desk.report([creation(order_id, merchant) | {"customer": customer}])
    await desk.report([update(closed_one, "cancelled")], sub=f"driver-of-{merchant}")

    async def is_searched() -> bool:
        answer = await desk.get("/v1/orders", bearer, q=f"driver-of-{merchant}")
        return [order["order_id"] for order in answer["items"]] == [closed_one]

    await eventually(is_searched, seconds=45)  # the index may have the orders of other tests to take in
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        search = page.get_by_test_id("search")
        for text, found in (
            ("zoe", [open_one, closed_one]),
            ("ZOÉ mul", [closed_one]),
            (f"tel {merchant}-cl", [closed_one]),
            (f"driver-of-{merchant}"[:-2], [closed_one]),
            (closed_one[:-1].upper(), [closed_one]),
            (ids[8], [ids[8]]),
        ):
            await search.fill(text)
            await shows_only(page, found)
        await expect(page).to_have_url(f"{desk.console}?q={ids[8]}")
        await search.fill("nobody-has-this")
        empty = page.get_by_test_id("board-empty")
        await expect(empty).to_contain_text(
            "Searched order ids, references, names, merchants and reporters, open and closed:"
            " nothing begins with “nobody-has-this”."
        )
        await search.press("Escape")
        await expect(page).to_have_url(desk.console)
        await expect(row_of(page, ids[0])).to_be_visible()


async def shows_only(page: Page, order_ids: list[str]) -> None:
    async def shown() -> bool:
        return sorted(row["order_id"] for row in await rows(page)) == sorted(order_ids)

    await eventually(shown)


# By the keyboard alone


async def test_the_keyboard_alone_searches_walks_opens_and_comes_back(desk: Desk) -> None:
    _, bearer, ids = await screenful(desk)
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        await page.keyboard.press("Tab")
        await expect(page.get_by_text("To the orders")).to_be_focused()
        await page.keyboard.press("/")
        await expect(page.get_by_test_id("search")).to_be_focused()
        await page.keyboard.press("ArrowDown")
        for key, place in (("j", 1), ("ArrowDown", 2), ("k", 1), ("End", 149), ("Home", 0), ("j", 1)):
            await page.keyboard.press(key)
            await expect(row_of(page, ids[place])).to_be_focused()
            await expect(row_of(page, ids[place])).to_be_in_viewport()
        await page.keyboard.press("Enter")
        await expect(page.get_by_test_id("order-title")).to_have_text(ids[1])
        await expect(page.get_by_test_id("order-panel")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(page.get_by_test_id("order-panel")).to_be_hidden()
        await expect(row_of(page, ids[1])).to_be_focused()


async def test_every_control_can_be_reached_and_shows_that_it_is_there(desk: Desk) -> None:
    _, bearer, _ = await screenful(desk)
    async with desk.page(bearer=bearer) as page:
        await is_live(page)
        reached: list[dict[str, Any]] = []
        while len(reached) < 40 and (not reached or reached[-1]["name"] != "board-row"):
            await page.keyboard.press("Tab")
            reached.append(await page.evaluate(FOCUSED))
        names = {one["name"] for one in reached}
        assert {
            "to-overview",
            "search",
            "create",
            "account",
            "count-open",
            "filter-button",
            "board-row",
        } <= names
        assert [one for one in reached if not one["is_marked"]] == []


FOCUSED = """() => {
  const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
  const name = document.activeElement.dataset.testid ?? document.activeElement.textContent.trim();
  return { name, is_marked: outlineStyle !== "none" && parseFloat(outlineWidth) > 0 };
}"""
