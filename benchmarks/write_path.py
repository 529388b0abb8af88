"""Looks at the path of an update, each on a stack of its own. On a quiet machine, please.

`python -m benchmarks.write_path trace [SAMPLES]`: where the time of one update on an idle system goes, from
its POST to its event at a dashboard, hop by hop, by the spans that the services export.

`python -m benchmarks.write_path growth [ORDERS …]`: the processor time of an update, and the memory of
order-state, with so many stored orders, each of which was touched once.

`python -m benchmarks.write_path idle [SECONDS]`: the processor time of a system without updates.

`python -m benchmarks.write_path due [ORDERS]`: the same, without orders and with so many open ones that have
a due time: what it costs to look for those that are overdue.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from secrets import token_hex
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, time_ns
from typing import Any

import uvloop
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.__main__ import say
from benchmarks.crowd import open_crowd
from benchmarks.data import PARTITIONS, batches
from benchmarks.documents import event_document
from benchmarks.http_client import MAX_BATCH, HttpClient, connect_http
from benchmarks.load import Site, closed_loops, percentile
from benchmarks.processes import read_usage, usage_between
from benchmarks.query_shape import board_order
from benchmarks.stack import site_of
from benchmarks.workload import STATUSES, Step, lifecycles, orders
from tracking.devstack.processes import free_port
from tracking.devstack.stack import StackOptions, run_stack
from tracking_shared.contracts.documents import OrderDocument, project
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.contracts.timestamps import format_time, now
from tracking_shared.storage.database import driver_errors, open_database

WARM_UPS = 20
PAUSE_SECONDS = 0.01
EXPORT_SECONDS = 30
CALLERS, CONNECTIONS = 64, 8
GROWTH_SECONDS, SETTLE_SECONDS = 10.0, 5.0
IDLE_SECONDS = 30

SPANS = {
    "POST /v1/orders": "request",
    "POST /v1/orders/{order_id}/updates": "request",
    "publish orders.commands": "command",
    "process orders.commands": "batch",
    "publish orders.events": "event",
    "process orders.events": "notifier",
}

HOPS = (
    ("the request reaches ingest", "sent", "request.start"),
    ("ingest verifies, validates and encodes it", "request.start", "command.start"),
    ("the broker stores the command and delivers it", "command.start", "batch.start"),
    ("order-state decides and commits it", "batch.start", "batch.end"),
    ("order-state encodes its event", "batch.end", "event.end"),
    ("the broker delivers the event", "event.end", "notifier.start"),
    ("the notifier writes it to the socket", "notifier.start", "notifier.end"),
    ("the dashboard has it", "notifier.end", "seen"),
    ("**in all, from POST to the event**", "sent", "seen"),
    ("beside it: the broker confirms the command", "command.start", "command.end"),
    ("beside it: from the commit to the end of the answer in ingest", "batch.end", "request.end"),
    ("beside it: from the end of the answer to its caller", "request.end", "answered"),
    ("beside it: from POST to the answer", "sent", "answered"),
)


class Collector:
    """Takes exported spans over HTTP, and keeps their times (ns since 1970) by trace and mark."""

    def __init__(self) -> None:
        self.times: dict[str, dict[str, int]] = {}
        self.arrived = asyncio.Event()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
                self._add(ExportTraceServiceRequest.FromString(await reader.readexactly(size)))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    def _add(self, request: Any) -> None:
        self.arrived.set()
        for span in (s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans):
            mark = SPANS.get(span.name.partition(":")[0]) or SPANS.get(span.name)
            if mark is not None:
                times = self.times.setdefault(span.trace_id.hex(), {})
                times[f"{mark}.start"] = span.start_time_unix_nano
                times[f"{mark}.end"] = span.end_time_unix_nano


async def trace(samples: int, collector: Collector, site: Site) -> None:
    """Prints the hops of updates, one at a time."""
    client = await connect_http(site.ingest, site.token())
    head, sampled = client.head, []
    async with open_crowd(site, 1) as crowd:
        steps = islice(lifecycles(), WARM_UPS + samples)
        for number, step in enumerate(steps, 1):
            trace_id = token_hex(16)
            client.head = head + b"traceparent: 00-%b-%b-01\r\n" % (trace_id.encode(), b"1" * 16)
            times = collector.times.setdefault(trace_id, {})
            times["sent"] = time_ns()
            await client.send(step)
            times["answered"] = time_ns()
            await crowd.saw(number, timeout=EXPORT_SECONDS)
            times["seen"] = time_ns() - int((perf_counter() - crowd.arrived_at) * 1e9)
            sampled.append(times)
            await asyncio.sleep(PAUSE_SECONDS)
    marks = {mark for hop in HOPS for mark in hop[1:]}
    async with asyncio.timeout(EXPORT_SECONDS):
        while not all(marks <= times.keys() for times in sampled):
            collector.arrived.clear()
            await collector.arrived.wait()
    print("| hop | median | 90th percentile |\n|---|---|---|")
    for title, start, end in HOPS:
        taken = sorted((times[end] - times[start]) / 1e6 for times in sampled[WARM_UPS:])
        print(f"| {title} | {median(taken):.2f} ms | {percentile(taken, 0.9):.2f} ms |")


async def growth(numbers: Sequence[int], site: Site) -> None:
    """Creates orders up to each of `numbers`, and measures updates of orders that lie far apart."""
    prefix, created, walked = token_hex(6), 0, dict[int, int]()
    steps = orders(prefix)
    print("| stored orders | updates/s | CPU of an update | of which, ms | memory of order-state |")
    print("|---|---|---|---|---|")
    for number in numbers:
        missing = islice(steps, number - created)
        await asyncio.gather(*(_create(site, missing) for _ in range(CONNECTIONS)))
        created = number
        clients = [await connect_http(site.ingest, site.token()) for _ in range(CALLERS)]
        walks = [_walk(prefix, range(lane, number, CALLERS), walked) for lane in range(CALLERS)]
        calls = [partial(_send_next, client, walk) for client, walk in zip(clients, walks, strict=True)]
        before = read_usage(site.pids)
        result, _ = await closed_loops(calls, GROWTH_SECONDS)
        after = read_usage(site.pids)
        memory = after["memory"]["order-state"] / 2**20
        cost = _cost(usage_between(before, after), result["updates"])
        print(f"| {number:,} | {result['rate']:.0f} | {cost} | {memory:.0f} MB |", flush=True)


def _cost(usage: Mapping[str, Any], number: float) -> str:
    each = {name: seconds * 1000 / number for name, seconds in usage["processes"].items()}
    parts = ", ".join(f"{name} {ms:.2f}" for name, ms in each.items())
    return f"{sum(each.values()):.2f} ms | {parts}"


async def idle(seconds: int, site: Site) -> None:
    """Prints the processor time of a second."""
    await asyncio.sleep(SETTLE_SECONDS)
    before = read_usage(site.pids)
    await asyncio.sleep(seconds)
    print(f"| {_cost(usage_between(before, read_usage(site.pids)), seconds)} |")


async def due(number: int, site: Site) -> None:
    """Prints the processor time of a second before and after it stores so many orders that are due later."""
    async with open_database(site.mongodb_url, "tracking") as database:
        for stored in (0, number):
            with driver_errors():
                for rows in batches(_due_later(order) for order in range(stored)):
                    await database.orders.insert_many(rows, ordered=False)
            print(f"{stored:,} open orders with a due time:")
            await idle(IDLE_SECONDS, site)


def _due_later(number: int) -> OrderDocument:
    planned = board_order(number)
    order, due_at = (f"due-{number}", planned.merchant_id), now() + timedelta(days=1, seconds=number)
    place, created = (partition_of(order[0], PARTITIONS), 0), planned.changes[0].at
    source, metadata = ("system", "benchmark"), planned.metadata
    event = event_document(
        order, planned.customer, STATUSES[:1], place, (created, created), source, metadata, metadata
    )
    event["due_at"] = due_at
    return project(event)


async def _create(site: Site, steps: Iterator[Step]) -> None:
    client = await connect_http(site.ingest, site.token())
    while batch := list(islice(steps, MAX_BATCH)):
        await client.send_batch(batch)


def _walk(prefix: str, numbers: Sequence[int], walked: dict[int, int]) -> Iterator[Step]:
    """One step of any order, and so on; an order that has come far stays in transit."""
    random, time = Random(len(numbers)), format_time(now())
    while True:
        number = random.choice(numbers)
        walked[number] = version = walked.get(number, 1) + 1
        yield Walk(f"{prefix}-{number}", "", version, time)


class Walk(Step):
    """A step of an order that goes on and on."""

    def body(self) -> bytes:
        """The body of the request."""
        return Step(self.order_id, "", min(self.version, 4), self.occurred_at).body()


async def _send_next(client: HttpClient, steps: Iterator[Step]) -> None:
    await client.send(next(steps))


def main() -> None:
    """Runs one of them."""
    kind, *arguments = sys.argv[1:] or ["trace"]
    numbers = [int(argument) for argument in arguments]
    looks = {
        "growth": partial(growth, numbers or [1000, 100_000]),
        "idle": partial(idle, (numbers or [IDLE_SECONDS])[0]),
        "due": partial(due, (numbers or [1_000_000])[0]),
    }
    uvloop.run(_trace(*numbers or [300]) if kind == "trace" else _on_stack(looks[kind]))


async def _trace(samples: int) -> None:
    collector, port = Collector(), free_port()
    async with await asyncio.start_server(collector.take, "127.0.0.1", port):
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{port}"
        await _on_stack(partial(trace, samples, collector))


async def _on_stack(look: Callable[[Site], Awaitable[None]]) -> None:
    os.environ["RATE_LIMIT_PER_SECOND"] = "0"
    with TemporaryDirectory(prefix="tracking-bench-") as folder:
        data = Path(folder)

        async def run(_ready: dict[str, Any]) -> None:
            await look(site_of(data))

        await run_stack(StackOptions(data=data), say, run)


if __name__ == "__main__":
    main()
