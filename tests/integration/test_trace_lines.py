"""Whoever has a trace id from an answer finds a line of the log under it, if something went wrong with us."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from builders import update_command
from callers import Caller, eventually
from fixtures import PARTITIONS, Spine, StartService
from statements.recording import with_recording
from tracking.devstack.processes import free_port
from tracking.devstack.service_process import PORT_VARIABLES, ServiceProcess
from tracking_shared.contracts.commands import COMMANDS_MEDIA_TYPE, encode_command, join_commands
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.messaging.connection import connect
from tracking_shared.messaging.topology import COMMANDS_EXCHANGE, routing_key
from tracking_shared.telemetry.spans import traceparent_of

HERE = str(Path(__file__).parent.parent)
CUSTOMER = {"name": "Ada Lovelace", "contact_ref": "crm-1"}


def lines(service: ServiceProcess, trace_id: str) -> list[str]:
    """What a service has logged under a trace, or about it."""
    logged = map(orjson.loads, service.log_path.read_text().splitlines())
    return [line["message"] for line in logged if trace_id in (line.get("trace_id") or line["message"])]


def new_order() -> dict[str, Any]:
    return {"order_id": uuid4().hex, "merchant_id": "m-1", "customer": CUSTOMER}


async def test_what_ingest_cannot_take_leaves_a_line_and_a_flood_of_it_no_flood(
    service_environment: dict[str, str], start_service: StartService
) -> None:
    service_environment["AMQP_URL"] = f"amqp://127.0.0.1:{free_port()}/"
    ingest = await start_service("ingest", wait=False)
    async with Caller([ingest.url]) as caller:
        await eventually(lambda: is_up(caller))
        answer = await eventually(lambda: unavailable_with_a_line(ingest, caller))
        assert [line.startswith("broker-unavailable: ") for line in answer] == [True]

        before = len(ingest.log_path.read_text().splitlines())
        line = {"op": "create"} | new_order()
        for _ in range(20):
            assert (await caller.post("/v1/batch", [line] * 50)).status == 503
        added = ingest.log_path.read_text().splitlines()[before:]
        assert sum("broker-unavailable" in one for one in added) <= 5
    assert "Lovelace" not in ingest.log_path.read_text()


async def is_up(caller: Caller) -> bool:
    try:
        return (await caller.post("/v1/orders", new_order())).status == 503
    except OSError:
        return False


async def unavailable_with_a_line(ingest: ServiceProcess, caller: Caller) -> list[str]:
    """The lines of one that was not left out, without what they say of those that were."""
    answer = await caller.post("/v1/orders", new_order())
    assert answer.status == 503
    assert answer.headers["Trace-Id"] == answer.body["trace_id"]
    return [line.partition(" (and")[0] for line in lines(ingest, answer.body["trace_id"])]


async def test_every_parked_update_leaves_a_line(
    service_environment: dict[str, str], start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PORT_VARIABLES, "faulty_order_state", "ORDER_STATE_PORT")
    service_environment |= {"PARTITIONS": str(PARTITIONS), "PYTHONPATH": with_recording(HERE)}
    ingest = await start_service("ingest")
    faulty = await start_service("faulty_order_state", POISON="deciding")
    order = new_order()
    path = f"/v1/orders/{order['order_id']}/updates"
    async with Caller([ingest.url]) as caller:
        await caller.post("/v1/orders", order)
        poison = await caller.post(path, {"status": "picked_up"}, Idempotency_Key="poison")
        behind = await caller.post(path, {"status": "in_transit"}, Idempotency_Key="behind")
    assert (poison.status, behind.status) == (202, 202)
    [first] = lines(faulty, poison.headers["Trace-Id"])
    assert first.startswith(f"parked update poison of order {order['order_id']}: ZeroDivisionError")
    [second] = lines(faulty, behind.headers["Trace-Id"])
    assert second == f"parked update behind of order {order['order_id']}: it waits for an earlier one"


async def test_what_is_dead_lettered_leaves_a_line(spine: Spine) -> None:
    foreign = next(name for name in (uuid4().hex for _ in range(99)) if partition_of(name, PARTITIONS) != 0)
    traces = [uuid4().hex, uuid4().hex]
    commands = [update_command(foreign, traceparent=traceparent_of(trace)) for trace in traces]
    body = join_commands([encode_command(command) for command in commands])
    async with connect(spine.environment["AMQP_URL"], "hostile") as connection:
        publisher = await connection.publisher(COMMANDS_EXCHANGE)
        for bad in (body, body[:-1]):
            await publisher.publish(routing_key(0), bad, content_type=COMMANDS_MEDIA_TYPE)
    for trace in traces:

        async def both_are_told(trace: str = trace) -> bool:
            return len(lines(spine.order_state, trace)) == 2

        await eventually(both_are_told)
