"""Tracing: one update is one trace, from the request to the socket."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from websockets.asyncio.client import ClientConnection, connect

from callers import Answer, Caller, token
from fixtures import PARTITIONS, StartService
from otlp_collector import CollectedSpan, Collector, otlp_collector
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.messaging.connection import connect as connect_broker
from tracking_shared.messaging.consumer import Consumer
from tracking_shared.messaging.topology import EVENTS_EXCHANGE

INTERNAL, SERVER, PRODUCER, CONSUMER = 1, 2, 4, 5

NAME, CONTACT = "Grace Hopper", "crm-4711"


@dataclass
class Traced:
    """Three services that trace all that their caller does not exclude."""

    collector: Collector
    caller: Caller
    socket: ClientConnection

    async def create(self, **headers: str) -> tuple[str, Answer]:
        """A new order, and what came back."""
        order_id = uuid4().hex
        customer = {"name": NAME, "contact_ref": CONTACT}
        body = {"order_id": order_id, "merchant_id": "m-1", "customer": customer}
        return order_id, await self.caller.post("/v1/orders", body, **headers)

    async def until_shown(self, order_id: str) -> None:
        """Reads the socket up to the order."""
        async with asyncio.timeout(20):
            while order_id not in str(await self.socket.recv()):
                pass


@asynccontextmanager
async def traced_services(start: StartService, **settings: str) -> AsyncIterator[Traced]:
    async with otlp_collector() as collector:
        environment = {
            "PARTITIONS": str(PARTITIONS),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        modules = ("order_state", "ingest", "notifier")
        _, ingest, notifier = [await start(module, **environment | settings) for module in modules]
        async with Caller([ingest.url]) as caller, connect(notifier.stream_url, max_size=None) as socket:
            await socket.send(json.dumps({"type": "subscribe", "token": token()}))
            while json.loads(await socket.recv())["type"] != "live":
                pass
            yield Traced(collector, caller, socket)


def chain(spans: list[CollectedSpan]) -> list[CollectedSpan]:
    """The spans from the one without a parent among them down, each the only child of the one before."""
    ids = {span.span_id for span in spans}
    (first,) = [span for span in spans if span.parent_id not in ids]
    ordered = [first]
    while children := [span for span in spans if span.parent_id == ordered[-1].span_id]:
        (child,) = children
        ordered.append(child)
    return ordered


async def test_an_update_is_one_trace_from_the_request_to_the_socket(start_service: StartService) -> None:
    async with traced_services(start_service) as traced:
        order_id, answer = await traced.create()
        await traced.until_shown(order_id)
        spans = await traced.collector.trace(answer.headers["Trace-Id"], 6)
        partition = partition_of(order_id, PARTITIONS)
        command = f"orders.commands:p{partition}"
        assert [(span.service, span.kind, span.name) for span in chain(spans)] == [
            ("tracking-ingest", SERVER, "POST /v1/orders"),
            ("tracking-ingest", PRODUCER, f"publish {command}"),
            ("tracking-order-state", CONSUMER, f"process {command}:orders.commands.p{partition}"),
            ("tracking-order-state", PRODUCER, "publish orders.events"),
            ("tracking-notifier", CONSUMER, "process orders.events"),
            ("tracking-notifier", INTERNAL, "push /v1/stream"),
        ]
        assert len(spans) == 6
        server, publish, process, _, _, push = chain(spans)
        assert server.parent_id == ""
        assert server.attributes == {
            "http.request.method": "POST",
            "http.route": "/v1/orders",
            "http.response.status_code": 201,
            "url.scheme": "http",
        }
        assert publish.attributes == {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
            "messaging.destination.name": command,
        }
        assert process.attributes["tracking.outcome"] == "applied"
        assert push.attributes == {"tracking.connections": 1}
        assert server.start_ns <= publish.start_ns <= publish.end_ns
        assert all(span.start_ns <= span.end_ns for span in spans)
        await assert_the_pass_is_linked(traced.collector, process)
        await assert_each_has_its_own(traced)
        for body in traced.collector.bodies:
            assert not any(secret.encode() in body for secret in (NAME, CONTACT, "Bearer", token()[:20]))


async def assert_the_pass_is_linked(collector: Collector, process: CollectedSpan) -> None:
    ((trace_id, span_id),) = process.links
    (itself,) = await collector.trace(trace_id, 1)
    assert (itself.span_id, itself.name, itself.parent_id) == (span_id, "batch", "")
    assert (process.trace_id, process.span_id) in itself.links


async def test_a_caller_decides_and_what_is_not_sampled_goes_over_the_broker_as_without_tracing(
    start_service: StartService, service_environment: dict[str, str]
) -> None:
    async with (
        traced_services(start_service, OTEL_TRACES_SAMPLER="parentbased_always_off") as traced,
        connect_broker(service_environment["AMQP_URL"], "tap") as connection,
    ):
        _, tap = await connection.private_consumer(EVENTS_EXCHANGE, limit=100)
        caller_span = secrets.token_hex(8)
        wanted, other = secrets.token_hex(16), secrets.token_hex(16)
        order_id, _ = await traced.create(traceparent=f"00-{wanted}-{caller_span}-01")
        await traced.until_shown(order_id)
        order_id, _ = await traced.create(traceparent=f"00-{other}-{caller_span}-00")
        await traced.until_shown(order_id)
        order_id, _ = await traced.create()
        await traced.until_shown(order_id)
        spans = await traced.collector.trace(wanted, 6)
        assert chain(spans)[0].parent_id == caller_span
        batches = [span for span in traced.collector.spans if span.name == "batch"]
        assert {span.trace_id for span in traced.collector.spans} == {wanted, batches[0].trace_id}
        headers = [headers async for headers in announced(tap, 3)]
        assert headers[0].keys() == {"format", "traceparent", "traceparents"}
        assert headers[1:] == [{"format": 1}, {"format": 1}]


async def announced(tap: Consumer, number: int) -> AsyncIterator[dict[str, Any]]:
    """The headers of the next messages of events."""
    async with asyncio.timeout(20):
        while number > 0:
            for delivery in await tap.next_batch(1):
                yield dict(delivery.headers)
                number -= 1


async def assert_each_has_its_own(traced: Traced) -> None:
    """Updates that share messages and batches do not share a trace."""
    answers = await asyncio.gather(*(traced.create() for _ in range(40)))
    before = [span for span in traced.collector.spans if span.name == "batch"]
    for order_id, answer in answers:
        spans = await traced.collector.trace(answer.headers["Trace-Id"], 6)
        assert len(chain(spans)) == len(spans) == 6, order_id
    batches = [span for span in traced.collector.spans if span.name == "batch" and span not in before]
    assert len(batches) < 40, "nothing was shared"
    linked = {trace for span in traced.collector.spans for trace, _ in span.links}
    assert {answer.headers["Trace-Id"] for _, answer in answers} <= linked
