"""An open order page and the board show an erased customer by the live event."""

from aiohttp import ClientSession
from desk import Desk, creation, is_live, new_merchant, row_of
from playwright.async_api import expect

from callers import token


async def erase(desk: Desk, contact_ref: str) -> None:
    headers = {"Authorization": f"Bearer {token(scope='orders:admin')}"}
    url = f"{desk.services['query'].url}/v1/customers/{contact_ref}"
    async with ClientSession(headers=headers) as session, session.delete(url) as response:
        assert response.status == 200


async def test_open_pages_forget_an_erased_customer(desk: Desk) -> None:
    merchant = new_merchant()
    order_id = f"{merchant}-1"
    customer = {"name": "Zaphod Beeblebrox", "contact_ref": f"crm-{merchant}"}
    await desk.report([creation(order_id, merchant, customer=customer)])
    async with desk.page(f"?order={order_id}", token(merchants=[merchant])) as page:
        await is_live(page)
        panel, row = page.get_by_test_id("order-panel"), row_of(page, order_id)
        await expect(panel).to_contain_text("Zaphod Beeblebrox")
        await expect(row).to_contain_text("Zaphod Beeblebrox")
        await erase(desk, customer["contact_ref"])
        for shown in (panel, row):
            await expect(shown).to_contain_text("erased")
            await expect(shown).not_to_contain_text("Zaphod Beeblebrox")
            await expect(shown).not_to_contain_text(customer["contact_ref"])
        await expect(page.get_by_test_id("step").first).to_contain_text("Customer erased")
