"""Signing in to the console with a certified OpenID Connect provider."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from desk import Desk, creation, is_live, open_desk
from oidc_provider import CLIENT_ID, RESOURCE, OidcProvider, running_provider
from playwright.async_api import Browser, Page, Route, expect

from callers import token
from servers import Broker, new_environment
from tracking.devstack.processes import free_port

ROLES = '{"dispatcher": "orders:read orders:write", "viewer": "orders:read"}'
ORDERS = {"acme": "acme-1", "bravo": "bravo-1", "other": "other-1"}
SHORT_SECONDS = 6
"""Renewed after four, while the page is used."""


@pytest.fixture(scope="module")
def ports() -> tuple[int, int]:
    """Of the provider and of query, which have to know each other."""
    return free_port(), free_port()


@pytest.fixture(scope="module")
async def provider(
    ports: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[OidcProvider]:
    provider_port, query_port = ports
    console = f"http://127.0.0.1:{query_port}/console/"
    async with running_provider(provider_port, console, tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture(scope="module")
async def signed(
    provider: OidcProvider,
    ports: tuple[int, int],
    browser: Browser,
    broker_node: Broker,
    mongodb_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Desk]:
    """A stack whose console signs in with the provider, with an order of each of three merchants."""
    environment = await new_environment(broker_node, mongodb_url) | {
        "OIDC_ISSUER": provider.issuer,
        "OIDC_CLIENT_ID": CLIENT_ID,
        "OIDC_RESOURCE": RESOURCE,
        "JWKS_URL": f"{provider.issuer}/jwks",
        "JWT_AUDIENCE": RESOURCE,
        "CLAIM_SCOPE": "roles",
        "ROLE_SCOPES": ROLES,
    }
    logs = tmp_path_factory.mktemp("signed")
    more = frozenset({provider.issuer})
    async with open_desk(environment, logs, browser, query_port=ports[1], more_origins=more) as desk:
        await desk.report([creation(order, merchant) for merchant, order in ORDERS.items()], **by_hand())
        yield desk


def by_hand() -> dict[str, object]:
    """Claims of a token that these services accept."""
    return {"roles": ["dispatcher"], "aud": RESOURCE}


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


async def token_of(page: Page) -> str:
    """The `exp` and `jti` of the token that the page sends with its next request."""
    async with page.expect_request(lambda request: "/v1/" in request.url) as asked:
        await page.get_by_test_id("to-overview").click()
    return (await asked.value).headers["authorization"]


async def test_somebody_signs_in_at_a_deep_link_and_sees_the_merchants_of_the_account(signed: Desk) -> None:
    async with signed.page("?merchant_id=acme&order=acme-1") as page:
        await sign_in(page, "ada")
        await expect(page.get_by_test_id("order-title")).to_have_text("acme-1")
        assert urlsplit(page.url).query == "merchant_id=acme&order=acme-1"
        await page.goto(signed.console)
        await shows(page, "acme-1", "bravo-1")
        await expect(page.get_by_test_id("create")).to_be_visible()
        kept = await page.evaluate("JSON.stringify([Object.entries(localStorage), Object.entries(sessionStorage)])")
        assert "eyJ" not in kept
