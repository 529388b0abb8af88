"""`tracking check` on an installation at work: silent unless something is wrong."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from fixtures import Spine
from tracking.upkeep.check import Findings, check_records
from tracking.upkeep.record_reader import read_partitions
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.storage.database import Database, open_database
from traffic import random_lives, traffic

PER_SECOND = 75
"""Enough that each check meets changes. A busy machine must have time for the checks beside it."""

WARM_UP = 300
CHECKS = 5
SMALL_PAGE = 20
MAX_PAGES = 15
"""Documents of one query, and queries of one kind: so many that changes fall between them. The embedded
database scans all that follows for each page. With 200 pages, a check of 4,000 events took 11 s, the traffic
added as many meanwhile, and on a busy machine each check took a multiple of the one before."""


@asynccontextmanager
async def at_work(spine: Spine) -> AsyncIterator[Database]:
    """The database, while orders move."""
    lives = random_lives(20_000, 5, Random(3))
    async with (
        open_database(spine.environment["MONGODB_URL"], spine.environment["MONGODB_DATABASE"]) as database,
        traffic(spine.caller, lives, PER_SECOND) as load,
    ):
        await load.goes_on(WARM_UP)
        yield database


async def check(database: Database) -> Findings:
    page = max(SMALL_PAGE, await database.order_events.estimated_document_count() // MAX_PAGES)
    return await check_records(database, await read_partitions(database), DEFAULT_WORKFLOW, page=page)


async def test_checks_under_traffic_find_nothing_that_is_not_there(spine: Spine) -> None:
    async with at_work(spine) as database:
        found = [await check(database) for _ in range(CHECKS)]
    assert [findings.examples for findings in found] == [[]] * CHECKS
    assert [findings.unsettled for findings in found] == [0] * CHECKS
    assert sum(findings.applied_meanwhile for findings in found) > CHECKS


async def _settled_orders(database: Database, number: int) -> list[Any]:
    """Orders to which nothing happens any more."""
    orders = await database.orders.find({"active": False}).limit(number).to_list()
    assert len(orders) == number
    return orders


async def _state_of_another_version(database: Database, order: Any) -> str:
    await database.orders.update_one({"_id": order["_id"]}, {"$set": {"status": "created"}})
    return f"order {order['_id']} is not the fold"


async def _lost_event(database: Database, order: Any) -> str:
    await database.order_events.delete_one({"order_id": order["_id"], "version": 1})
    return f"order {order['_id']}: versions are"


async def _lost_outcome(database: Database, order: Any) -> str:
    first = {"order_id": order["_id"], "version": 1}
    await database.order_events.update_one(first, {"$unset": {"update_key": "", "fingerprint": ""}})
    return f"event {order['_id']}:1 has no stored outcome"


async def test_faults_are_found_under_traffic(spine: Spine) -> None:
    plants = (_state_of_another_version, _lost_event, _lost_outcome)
    async with at_work(spine) as database:
        orders = await _settled_orders(database, len(plants))
        faults = [await plant(database, order) for plant, order in zip(plants, orders, strict=True)]
        found = await check(database)
    for fault in faults:
        assert any(fault in example for example in found.examples), (fault, found.examples)
    # The lost event is also missing in the log, and for its outcome.
    ids = [order["_id"] for order in orders]
    told = [text for text in found.examples if "seqs are not" not in text]
    assert [text for text in told if not any(order_id in text for order_id in ids)] == []
