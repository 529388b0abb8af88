"""A token that ends while somebody works: warned of, renewed on top of what is open, with nothing lost."""

from time import time
from typing import Any

import pytest
from desk import PHONE, WIDE, Desk, ViewportSize, creation, is_live, new_merchant
from playwright.async_api import Page, expect

from callers import token

SHORT_SECONDS = 10
"""Long enough to load the page and to type a few words while others work, too."""


async def one_order(desk: Desk) -> tuple[str, str]:
    merchant = new_merchant()
    await desk.report([creation(f"{merchant}-1", merchant)])
    return f"{merchant}-1", merchant


def of_ada(merchant: str, seconds: float = 3600, **claims: Any) -> str:
    standard = {"merchants": [merchant], "sub": "ada", "source_type": "operator"}
    return token(**(standard | claims), exp=int(time() + seconds))


async def sign_in(page: Page, bearer: str) -> None:
    await page.get_by_test_id("token-input").fill(bearer)
    await page.get_by_test_id("sign-in-send").click()
    await expect(page.get_by_test_id("sign-in")).to_be_hidden()
    await is_live(page)


async def note_down(page: Page, form: str, text: str) -> None:
    """Types a note into a form."""
    await page.get_by_test_id(form).get_by_role("button", name="Note").click()
    await page.get_by_label("Name of the note").fill("said")
    await page.get_by_label("Note", exact=True).fill(text)


async def test_an_update_that_was_being_written_survives_the_end_of_the_token(desk: Desk) -> None:
    order_id, merchant = await one_order(desk)
    async with desk.page(f"?order={order_id}", of_ada(merchant, SHORT_SECONDS)) as page:
        await page.get_by_test_id("action-picked_up").click()
        await note_down(page, "update-form", "at the back door")
        await expect(page.get_by_test_id("sign-in")).to_be_visible()
        await sign_in(page, of_ada(merchant))
        await expect(page.get_by_label("Note", exact=True)).to_have_value("at the back door")
        await page.get_by_test_id("update-send").click()
        await expect(page.get_by_test_id("order-panel")).to_have_attribute("data-status", "picked_up")
        await expect(page.get_by_test_id("step").first).to_contain_text("at the back door")


async def test_a_new_order_that_was_being_written_survives_the_end_of_the_token(desk: Desk) -> None:
    _, merchant = await one_order(desk)
    async with desk.page("", of_ada(merchant, SHORT_SECONDS)) as page:
        await page.get_by_test_id("create").click()
        form = page.get_by_test_id("create-form")
        for name, text in (("order_id", f"{merchant}-2"), ("name", "Grace Hopper"), ("contact_ref", "crm-7")):
            await form.locator(f"[name={name}]").fill(text)
        await expect(page.get_by_test_id("sign-in")).to_be_visible()
        await sign_in(page, of_ada(merchant))
        await expect(form.locator("[name=name]")).to_have_value("Grace Hopper")
        await page.get_by_test_id("create-send").click()
        await expect(page.get_by_test_id("order-title")).to_have_text(f"{merchant}-2")


async def test_somebody_else_who_signs_in_finds_nothing_of_what_was_typed(desk: Desk) -> None:
    order_id, merchant = await one_order(desk)
    async with desk.page(f"?order={order_id}", of_ada(merchant, SHORT_SECONDS)) as page:
        await is_live(page)
        await page.get_by_test_id("action-picked_up").click()
        await note_down(page, "update-form", "at the back door")
        await expect(page.get_by_test_id("sign-in")).to_be_visible()
        await sign_in(page, of_ada(merchant, sub="bob"))
        await expect(page.get_by_test_id("action-picked_up")).to_be_visible()
        assert "at the back door" not in await page.content()


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
async def test_the_end_of_a_token_is_warned_of_and_put_off(desk: Desk, size: ViewportSize) -> None:
    order_id, merchant = await one_order(desk)
    async with desk.page(f"?order={order_id}", of_ada(merchant, 250), size) as page:
        warning = page.get_by_test_id("session-end")
        await expect(warning).to_contain_text("in 5 minutes")
        await page.get_by_test_id("action-picked_up").click()
        await note_down(page, "update-form", "at the back door")
        await page.get_by_test_id("session-end-renew").click()
        await page.get_by_test_id("sign-in-later").click()
        await expect(page.get_by_test_id("sign-in")).to_be_hidden()
        await page.get_by_test_id("session-end-renew").click()
        await sign_in(page, of_ada(merchant))
        await expect(warning).to_be_hidden()
        await expect(page.get_by_label("Note", exact=True)).to_have_value("at the back door")


async def test_the_warning_can_be_used_from_an_open_dialog(desk: Desk) -> None:
    _, merchant = await one_order(desk)
    async with desk.page("", of_ada(merchant, 250)) as page:
        await is_live(page)
        await page.get_by_test_id("create").click()
        await page.get_by_test_id("create-form").locator("[name=name]").fill("Grace Hopper")
        await page.get_by_test_id("session-end-renew").click()
        await sign_in(page, of_ada(merchant))
        await expect(page.get_by_test_id("create-form").locator("[name=name]")).to_have_value("Grace Hopper")
        await expect(page.get_by_test_id("session-end")).to_be_hidden()


async def test_a_token_with_an_hour_left_is_not_warned_of(desk: Desk) -> None:
    _, merchant = await one_order(desk)
    async with desk.page("", of_ada(merchant)) as page:
        await is_live(page)
        await expect(page.get_by_test_id("session-end")).to_be_hidden()
