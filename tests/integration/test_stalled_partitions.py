"""A partition that the database fails at waits alone, in sight; the others are decided as ever."""

from uuid import uuid4

from pymongo.asynchronous.client_session import AsyncClientSession
from test_order_state_metrics import samples

from callers import Caller, eventually
from fixtures import PARTITIONS, Spine
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.storage.database import Database, open_database

MISSING, BLOCKED = 1, 2

OLDEST_BATCH = "tracking_oldest_batch_seconds"


def oldest_in(partition: int) -> str:
    """The metric of the oldest command in hand of a partition."""
    return f'tracking_oldest_command_seconds{{partition="{partition}"}}'


def order_of(partition: int) -> str:
    """An order id of its own that is in this partition."""
    while partition_of(order_id := uuid4().hex, PARTITIONS) != partition:
        pass
    return order_id


async def create(caller: Caller, order_id: str, wait: int) -> int:
    """The status of the answer after so many seconds."""
    body = {"order_id": order_id, "merchant_id": "m-1", "customer": {"name": "Ada", "contact_ref": "crm-1"}}
    answer = await caller.post(
        "/v1/orders", body, Idempotency_Key=f"{order_id}.create", Prefer=f"wait={wait}"
    )
    return answer.status


async def hold(database: Database, session: AsyncClientSession, partition: int) -> None:
    """A transaction on the partition that no claim can end: its session is nobody's that is known."""
    await session.start_transaction()
    await database.partitions.update_one({"_id": partition}, {"$set": {"held": True}}, session=session)


async def test_a_missing_partition_and_a_blocked_one_hold_up_nobody_else(spine: Spine) -> None:
    url, name = spine.environment["MONGODB_URL"], spine.environment["MONGODB_DATABASE"]
    orders = {partition: order_of(partition) for partition in range(PARTITIONS)}
    async with open_database(url, name) as database, database.client.start_session() as session:
        missing = await database.partitions.find_one_and_delete({"_id": MISSING})
        assert missing is not None
        await hold(database, session, BLOCKED)
        for partition in (MISSING, BLOCKED):
            assert await create(spine.caller, orders[partition], wait=1) == 202
        for partition in {*orders} - {MISSING, BLOCKED}:
            assert await create(spine.caller, orders[partition], wait=5) == 201

        async def is_seen() -> bool:
            found = await samples(spine)
            assert found[oldest_in(next(iter({*orders} - {MISSING, BLOCKED})))] == 0
            is_old = all(found[oldest_in(partition)] > 1 for partition in (MISSING, BLOCKED))
            return is_old and found["tracking_stalled_partitions"] > 0 and found[OLDEST_BATCH] > 1

        await eventually(is_seen)
        log = spine.order_state.log_path.read_text()
        assert f"partition {MISSING} is stalled, next attempt in 1 s: " in log
        assert f"partition {MISSING} is not set up" in log

        await database.partitions.insert_one(missing)
        await session.abort_transaction()
        for order_id in orders.values():

            async def is_decided(order_id: str = order_id) -> bool:
                return await create(spine.caller, order_id, wait=1) == 201

            await eventually(is_decided)

    async def is_over() -> bool:
        found = await samples(spine)
        ages = [found[OLDEST_BATCH], *(found[oldest_in(partition)] for partition in range(PARTITIONS))]
        return found["tracking_stalled_partitions"] == max(ages) == 0

    await eventually(is_over)
