"""A request to archive orders that one owner has begun and another one ends."""

from collections.abc import AsyncIterator

import pytest

from builders import create_command, update_command
from owners import Owner
from tracking_order_state.adapters.archivings import OpenArchivings
from tracking_order_state.errors import Fenced
from tracking_shared.contracts.documents import ArchivableOrderDocument
from tracking_shared.storage.database import Database, open_database

ORDERS = [f"o-{number}" for number in range(4)]


@pytest.fixture
async def database(mongodb_url: str, database_name: str) -> AsyncIterator[Database]:
    """One with a partition."""
    async with open_database(mongodb_url, database_name) as database:
        await database.prepare(1)
        yield database


async def ask(database: Database) -> None:
    """Asks for all orders, as the command does once their events are written."""
    found = await database.orders.find().sort("_id", 1).to_list()
    orders: list[ArchivableOrderDocument] = []
    for order in found:
        newest = await database.order_events.find_one({"order_id": order["_id"], "version": order["version"]})
        assert newest is not None
        one: ArchivableOrderDocument = {
            "order_id": order["_id"],
            "version": order["version"],
            "seq": newest["seq"],
            "updated_at": order["updated_at"],
        }
        orders.append(one)
    await database.archivings.insert_one(
        {"_id": "part-1/0/0", "part": "part-1", "partition": 0, "orders": orders, "open": True}
    )


async def test_a_request_that_an_owner_has_not_finished_is_carried_out_by_the_next_one(
    database: Database,
) -> None:
    first, second = Owner(database), Owner(database)
    await first.outcomes(*(create_command(order_id) for order_id in ORDERS))
    await first.outcomes(*(update_command(order_id, "cancelled") for order_id in ORDERS))
    await ask(database)
    open_requests = OpenArchivings(database)
    [request] = await open_requests.pending([0])
    begun, left = request.split(2)
    assert left is not None
    await first.processor.steps.archive(first.partition, begun)
    assert await database.archived_orders.distinct("_id") == ORDERS[:2]
    assert await database.orders.distinct("_id") == ORDERS[2:]

    await second.processor.claim(second.partition)
    with pytest.raises(Fenced):
        await first.processor.steps.archive(first.partition, left)
    [again] = await open_requests.pending([0])
    assert again == request
    repeated, left = again.split(2)
    assert left is not None
    await second.processor.steps.archive(second.partition, repeated)
    await second.processor.steps.archive(second.partition, left)

    assert await open_requests.pending([0]) == []
    assert await database.archived_orders.distinct("_id") == ORDERS
    assert await database.orders.distinct("_id") == []
    partition = await database.partitions.find_one({"_id": 0})
    assert partition is not None
    assert partition["archived"] == len(ORDERS)
    assert partition["log_start"] == 2 * len(ORDERS)
