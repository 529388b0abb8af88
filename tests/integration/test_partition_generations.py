"""After a change of the number of partitions, what goes by partition covers the orders of all generations."""

from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4

from archive_scene import (
    ACTOR,
    Reader,
    archived,
    assert_consistent,
    database_of,
    final_orders,
    order_with,
    reading,
)
from repartition_changes import changed, layout

from callers import Caller, eventually
from fixtures import PARTITIONS, Spine, StartService
from tracking.upkeep.restore import restore_order
from tracking_shared.contracts.layout import Layout
from tracking_shared.contracts.timestamps import format_time, now
from tracking_shared.storage.audit_trail import AuditTrail
from tracking_shared.storage.erasures import erasure_view, request_erasure, wait_for_erasure


async def test_due_times_log_erasure_and_archives_cover_the_orders_of_every_generation(
    spine: Spine, start_service: StartService, tmp_path: Path
) -> None:
    folder = tmp_path / "archive"
    query = await start_service("query", ARCHIVE_DIR=str(folder))
    old, due = await final_orders(spine.caller, 2), [await due_soon(spine.caller)]
    await changed(spine.environment, 2)
    new = await final_orders(spine.caller, 2)
    due.append(await due_soon(spine.caller))
    assert await layout(spine.environment) == Layout((PARTITIONS, 2))
    async with reading(query.url) as reader, database_of(spine.environment) as database:
        for order_id in due:
            await eventually(partial(is_overdue, reader, order_id))
        page = await reader.ok("/v1/events?" + "&".join(f"order_id={order_id}" for order_id in due))
        assert {event["subject"]: event["partition"] >= PARTITIONS for event in page["events"]} == {
            due[0]: False,
            due[1]: True,
        }

        erasure = await request_erasure(database, AuditTrail(database), ACTOR, "crm-1", None)
        assert erasure_view(await wait_for_erasure(database, erasure))["orders"] == 6

        assert (await archived(spine, folder))["orders"] == 4
        for order_id in (*old, *new):
            assert (await reader.ok(f"/v1/orders/{order_id}"))["archived"]
            answer = await note(spine.caller, order_id)
            assert answer == (409, "/problems/order-archived")
        names = (spine.environment["MONGODB_URL"], spine.environment["MONGODB_DATABASE"])
        for order_id in (old[0], new[0]):
            await restore_order(*names, folder, order_id, ACTOR)
            assert await note(spine.caller, order_id) == (200, "")
            history = await reader.ok(f"/v1/orders/{order_id}/history")
            assert [item["version"] for item in history["items"]] == list(range(1, 7))
    await assert_consistent(spine, folder, 2)


async def due_soon(caller: Caller) -> str:
    """A new order that is overdue in a moment."""
    order_id = uuid4().hex
    await order_with(caller, order_id, due_at=format_time(now() + timedelta(seconds=1)))
    return order_id


async def is_overdue(reader: Reader, order_id: str) -> bool:
    """True once that is recorded."""
    return bool((await reader.ok(f"/v1/orders/{order_id}"))["overdue"])


async def note(caller: Caller, order_id: str) -> tuple[int, str]:
    """The status and the problem of another report about the order."""
    body = {"kind": "note", "message": "at the gate"}
    answer = await caller.post(f"/v1/orders/{order_id}/checkpoints", body)
    return answer.status, answer.body.get("type", "")
