"""The memory of a query process does not grow with what it exports."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession
from query_stack import PARTITIONS, SECRET, START, World, store, token

from fixtures import StartService
from tracking.devstack.service_process import ServiceProcess
from tracking_query.orders.export_forms import EXPORTED_TYPES
from tracking_shared.storage.database import open_database

SMALL, LARGE = 2_000, 24_000
PADDING = "0123456789abcdef" * 64

GROWTH_KIB = 8 * 1024
"""What the large export may take more than the small one; its orders are 30 MB. Measured: 0.1 to 4 MiB."""

pytestmark = pytest.mark.slow


@pytest.fixture
async def query(
    start_service: StartService, mongodb_url: str, database_name: str
) -> AsyncIterator[ServiceProcess]:
    """A service of its own process, with a small merchant and a large one."""
    async with open_database(mongodb_url, database_name) as database:
        await store(database, two_merchants())
        yield await start_service("query", JWT_SECRET=SECRET, PARTITIONS=str(PARTITIONS))
        await database.client.drop_database(database_name)


def two_merchants() -> World:
    world = World()
    for number in range(SMALL + LARGE):
        merchant = "small" if number < SMALL else "large"
        created = {"merchant_id": merchant, "customer": {"name": "n" * 40, "contact_ref": f"c-{number}"}}
        order = world.apply(f"o-{number}", "created", START + timedelta(seconds=number), created)
        world.orders[f"o-{number}"]["metadata"] = {"number": number, "padding": PADDING}
        order["order_metadata"] = {}
    return world


async def export(service: ServiceProcess, merchant: str, media_type: str) -> int:
    """The bytes of the export."""
    headers = {
        "Authorization": f"Bearer {token()}",
        "Accept": media_type,
        "Accept-Encoding": "identity",
    }
    url, total = f"{service.url}/v1/orders?merchant_id={merchant}", 0
    async with ClientSession(headers=headers) as session, session.get(url) as response:
        assert response.status == 200
        async for chunk in response.content.iter_any():
            total += len(chunk)
    return total


def peak_kib(process_id: int) -> int:
    """The most memory that the process has had since the last `forget_peak`."""
    status = Path(f"/proc/{process_id}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1])


def forget_peak(process_id: int) -> None:
    Path(f"/proc/{process_id}/clear_refs").write_text("5")


@pytest.mark.parametrize("media_type", EXPORTED_TYPES)
async def test_an_export_of_many_takes_no_more_memory_than_one_of_few(
    query: ServiceProcess, media_type: str
) -> None:
    process_id = query.process.pid

    async def peak_of(merchant: str) -> int:
        forget_peak(process_id)
        await export(query, merchant, media_type)
        return peak_kib(process_id)

    for _ in range(3):  # until the allocator has what it needs
        small = await peak_of("small")
    large = await peak_of("large")
    assert large - small < GROWTH_KIB, (small, large)
