"""Signing in to the console with a certified OpenID Connect provider."""

import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from desk import Desk, creation, is_live, open_desk, update
from playwright.async_api import Browser, Page, Route, WebSocket, expect

from callers import eventually, token
from oidc_provider import RESOURCE, OidcProvider, running_provider
from servers import Broker, new_environment
from tracking.devstack.processes import free_port

GUIDE = Path(__file__).parents[2] / "docs/sign-in.md"
ORDERS = {"acme": "acme-1", "bravo": "bravo-1", "other": "other-1"}
SHORT_SECONDS = 5
"""The lifetime of tokens that are renewed while a test waits."""
LONG_SECONDS = 600


@pytest.fixture(scope="module")
async def provider(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OidcProvider]:
    """A provider whose client is the console of `signed`."""
    console = f"http://127.0.0.1:{free_port()}/console/"
    async with running_provider(free_port(), console, tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture(scope="module")
async def signed(
    provider: OidcProvider,
    browser: Browser,
    broker_node: Broker,
    mongodb_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Desk]:
    """A stack with the settings of the guide, and an order of each of three merchants."""
    environment = await new_environment(broker_node, mongodb_url) | settings_of_the_guide(provider.issuer)
    logs = tmp_path_factory.mktemp("signed")
    more, port = frozenset({provider.issuer}), urlsplit(provider.console).port
    async with open_desk(environment, logs, browser, query_port=port, more_origins=more) as desk:
        await desk.report(
            [creation(order, merchant) for merchant, order in ORDERS.items()], **by_hand(provider)
        )
        yield desk


def settings_of_the_guide(issuer: str) -> dict[str, str]:
    """The settings as the page documents them, for this provider."""
    (block,) = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    lines = shlex.split(block.replace("https://login.example.com", issuer))
    return dict(line.split("=", 1) for line in lines)


def by_hand(provider: OidcProvider) -> dict[str, Any]:
    """Claims of a token that these services accept."""
    return {"roles": ["dispatcher"], "aud": RESOURCE, "iss": provider.issuer}


async def sign_in(page: Page, name: str) -> None:
    """Signs in at the provider."""
    await page.get_by_test_id("sign-in-provider").click()
    await page.locator("[name=login]").fill(name)
    await page.locator("[name=password]").fill("any")
    await page.locator("button[type=submit]").click()


async def shows(page: Page, *order_ids: str) -> None:
    """Waits until the board has exactly these orders."""
    await is_live(page)
    await expect(page.get_by_test_id("board-row")).to_have_count(len(order_ids))
    for order_id in order_ids:
        await expect(page.get_by_test_id("board-row").filter(has_text=order_id)).to_have_count(1)


async def says(page: Page, text: str) -> None:
    """Waits for a sentence in the form."""
    await expect(page.get_by_test_id("sign-in")).to_be_visible()
    await expect(page.get_by_test_id("sign-in-fault")).to_contain_text(text)


async def test_somebody_signs_in_at_a_deep_link_and_sees_the_merchants_of_the_account(signed: Desk) -> None:
    async with signed.page("?merchant_id=acme&order=acme-1") as page:
        await sign_in(page, "ada")
        await expect(page.get_by_test_id("order-title")).to_have_text("acme-1")
        assert urlsplit(page.url).query == "merchant_id=acme&order=acme-1"
        await page.goto(signed.console)
        await shows(page, "acme-1", "bravo-1")
        await expect(page.get_by_test_id("create")).to_be_visible()
        kept = await page.evaluate(
            "JSON.stringify([Object.entries(localStorage), Object.entries(sessionStorage)])"
        )
        assert "eyJ" not in kept


async def test_a_role_without_writing_only_looks(signed: Desk) -> None:
    async with signed.page() as page:
        await sign_in(page, "vera")
        await shows(page, "acme-1")
        await expect(page.get_by_test_id("create")).to_be_hidden()


async def test_tokens_are_renewed_on_a_connection_that_stays(signed: Desk, provider: OidcProvider) -> None:
    await provider.issue_tokens_for(SHORT_SECONDS)
    sockets: list[str] = []
    sent: list[str] = []

    def opened(socket: WebSocket) -> None:
        sockets.append(socket.url)
        socket.on("framesent", lambda payload: sent.append(str(payload)))

    try:
        async with signed.page() as page:
            page.on("websocket", opened)
            await sign_in(page, "ada")
            await shows(page, "acme-1", "bravo-1")

            async def renewed_twice() -> bool:
                return sum('"refresh"' in payload for payload in sent) >= 2

            await eventually(renewed_twice, seconds=60)
            await signed.report([update("acme-1", "picked_up")], **by_hand(provider))
            row = page.get_by_test_id("board-row").filter(has_text="acme-1")
            await expect(row).to_contain_text("Picked up")
            assert len(sockets) == 1
            await expect(page.get_by_test_id("session-end")).to_be_hidden()
    finally:
        await provider.issue_tokens_for(LONG_SECONDS)


async def test_a_session_that_ends_at_the_provider_is_asked_for_again(
    signed: Desk, provider: OidcProvider
) -> None:
    await provider.issue_tokens_for(SHORT_SECONDS)
    try:
        async with signed.page("?order=acme-1") as page:
            await sign_in(page, "ada")
            await is_live(page)
            elsewhere = await page.context.new_page()
            await elsewhere.goto(f"{provider.issuer}/session/end")
            await elsewhere.get_by_role("button", name="Yes, sign me out").click()
            await says(page, "has ended. Sign in again.")
            await provider.issue_tokens_for(LONG_SECONDS)
            await sign_in(page, "ada")
            await expect(page.get_by_test_id("order-title")).to_have_text("acme-1")
    finally:
        await provider.issue_tokens_for(LONG_SECONDS)


async def test_signing_out_ends_the_session_of_the_provider_and_of_other_tabs(signed: Desk) -> None:
    async with signed.page() as page:
        await sign_in(page, "ada")
        await is_live(page)
        another = await page.context.new_page()
        await another.goto(f"{signed.console}?order=bravo-1")
        await expect(another.get_by_test_id("order-title")).to_have_text("bravo-1")
        await page.get_by_test_id("account").click()
        await page.get_by_test_id("sign-out").click()
        await page.get_by_role("button", name="Yes, sign me out").click()
        for tab in (page, another):
            await expect(tab.get_by_test_id("sign-in")).to_be_visible()
            await expect(tab.get_by_test_id("board-row")).to_have_count(0)
        await another.reload()
        await sign_in(another, "vera")
        await expect(another.get_by_test_id("order-missing")).to_be_visible()


async def test_signing_out_of_a_provider_that_is_away_says_so(signed: Desk, provider: OidcProvider) -> None:
    async with signed.page() as page:
        await sign_in(page, "ada")
        await is_live(page)
        await page.route(f"{provider.issuer}/**", lambda route: route.abort())
        await page.get_by_test_id("account").click()
        await page.get_by_test_id("sign-out").click()
        await says(page, "You are signed out here.")
        await page.get_by_test_id("sign-in-provider").click()
        await says(page, "cannot be reached")
        await page.unroute_all()
        await page.get_by_test_id("sign-in-provider").click()
        await shows(page, "acme-1", "bravo-1")


async def test_a_provider_that_is_not_there_is_named_and_a_demonstration_goes_on_without_it(
    signed: Desk, provider: OidcProvider
) -> None:
    offered = token(**by_hand(provider), sub="demo-operator", merchants=["other"])
    metadata = f"{provider.issuer}/.well-known/openid-configuration"

    async def offer(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(json=await answer.json() | {"token": offered})

    async with signed.page("favicon.svg") as page:
        await page.context.route("**/config.json", offer)
        await page.goto(signed.console)
        await shows(page, "other-1")
        await sign_out(page)
        cors = {"Access-Control-Allow-Origin": "*"}
        await page.route(metadata, lambda route: route.fulfill(status=404, headers=cors))
        await page.get_by_test_id("sign-in-provider").click()
        await says(page, f"{metadata} answered 404, so nobody can sign in there. Try again in a moment.")
        await page.get_by_test_id("sign-in-offer").click()
        await shows(page, "other-1")
        await page.unroute(metadata)
        await sign_out(page)
        await sign_in(page, "ada")
        await shows(page, "acme-1", "bravo-1")
        await page.reload()
        await shows(page, "acme-1", "bravo-1")


async def sign_out(page: Page) -> None:
    await page.get_by_test_id("account").click()
    await page.get_by_test_id("sign-out").click()


async def test_a_refused_login_and_a_foreign_callback_sign_nobody_in(signed: Desk) -> None:
    async with signed.page("?order=acme-1") as page:
        await page.get_by_test_id("sign-in-provider").click()
        await page.get_by_text("Cancel").click()
        await says(page, "was refused or cancelled")
        assert urlsplit(page.url).query == "order=acme-1"
        await page.goto(f"{signed.console}?code=theirs&state=theirs&iss=theirs")
        await says(page, "did not begin in this tab")
        assert page.url == signed.console


async def test_an_account_without_merchants_is_told_so_and_another_one_can_be_chosen(signed: Desk) -> None:
    async with signed.page() as page:
        await sign_in(page, "newcomer")
        await says(page, "no merchants")
        await sign_in(page, "ada")
        await shows(page, "acme-1", "bravo-1")


async def test_a_pasted_token_goes_on_to_work(signed: Desk, provider: OidcProvider) -> None:
    async with signed.page() as page:
        await page.get_by_test_id("sign-in-by-hand").click()
        await page.get_by_test_id("token-input").fill(token(**by_hand(provider), merchants=["other"]))
        await page.get_by_test_id("sign-in-send").click()
        await shows(page, "other-1")
        await page.get_by_test_id("account").click()
        await page.get_by_test_id("sign-out").click()
        await expect(page.get_by_test_id("sign-in-provider")).to_be_visible()
