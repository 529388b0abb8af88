"""The cost of tracing in processor time.

Every step that tracing adds to an update runs here as the services run it, one after another in one process,
with groups of the size that 64 callers make; export included, to a sink in another process. Made-up messages
cost something, too: a run with nothing sampled shows how much, and is taken off.
"""

import os
import sys
from collections.abc import AsyncIterator
from secrets import token_hex
from time import process_time
from types import SimpleNamespace
from typing import Any, cast

from benchmarks.load import Result, Run, Site
from benchmarks.processes import start_process
from tracking.devstack.processes import free_port
from tracking_ingest.submission.pipeline import Submission
from tracking_ingest.submission.publish_spans import publish_spans
from tracking_notifier.log.push_spans import PushSpans
from tracking_order_state.processing.batch_spans import BatchSpans, spans_that_sent
from tracking_order_state.processing.stages import (
    CommittedBatch,
    PartitionBatch,
    PartitionResult,
    PartitionState,
    ReceivedBatch,
)
from tracking_shared.http.service_app import _server_span
from tracking_shared.telemetry.spans import Spans, request_span
from tracking_shared.telemetry.tracing import open_spans

GROUP = 8
"""Updates that share a message: 64 callers, 4 partitions, one message in flight and one waiting for each."""

ROUNDS = 3
"""The smallest counts: whatever else the machine does only adds to it."""

SINK = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_): pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Sink).serve_forever()
"""


async def tracing(_site: Site, share: float, updates: int) -> AsyncIterator[Run]:
    """Microseconds of an update with this share of them sampled, and with none."""
    port = free_port()
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{port}"
    os.environ["OTEL_TRACES_SAMPLER"] = "parentbased_traceidratio"
    os.environ["OTEL_BSP_MAX_QUEUE_SIZE"] = "100000"  # nothing is dropped: all of it is paid for
    async with start_process(sys.executable, "-c", SINK, str(port)):

        async def run() -> Result:
            nothing = min([await _measured(0, updates) for _ in range(ROUNDS)])
            sampled = min([await _measured(share, updates) for _ in range(ROUNDS)])
            return {"tracing_us": sampled - nothing, "nothing_sampled_us": nothing}

        yield run


async def _measured(share: float, updates: int) -> float:
    os.environ["OTEL_TRACES_SAMPLER_ARG"] = str(share)
    spans = open_spans("bench")
    assert spans is not None
    before = process_time()
    push = PushSpans(spans, cast(Any, HUB))
    for group in range(updates // GROUP):
        await _trace_group(spans, push, group)
    spans.close()
    return (process_time() - before) / updates * 1e6


async def _publish_nothing(*_: Any) -> None:
    pass


PUBLISHER = SimpleNamespace(publish_events=_publish_nothing)
HUB = SimpleNamespace(audience_size=lambda _: 1)
ROUTE = SimpleNamespace(path="/v1/orders/{order_id}/updates")


async def _trace_group(spans: Spans, push: PushSpans, group: int) -> None:
    submissions, requests = [], []
    trace_ids = [token_hex(16) for _ in range(GROUP)]  # made without tracing, too
    for number in range(GROUP):
        scope = {"method": "POST", "scheme": "http", "route": ROUTE}
        requests.append(_server_span(spans, scope, trace_ids[number], None))
        span = None if requests[-1] is None else request_span.get()  # else that of the one before
        submission = Submission(b"", True, cast(Any, None), cast(Any, None))
        if span is not None and span.is_sampled:
            _ = span.traceparent
            submission.request_span, submission.submitted_ns = span, 1
        submissions.append(submission)
    message = SimpleNamespace(headers={})
    with publish_spans(spans, "orders.commands:p0", submissions) as headers:
        message.headers = headers or {}
    commands = [SimpleNamespace(order_id=f"{group}-{n}", update_id="u") for n in range(GROUP)]
    traced = spans_that_sent(cast(Any, message), cast(Any, commands))
    events = [{"order_id": command.order_id, "update_id": "u"} for command in commands]
    result = PartitionResult(cast(Any, [{"outcome": "applied"}] * GROUP), cast(Any, events))
    part = PartitionBatch(PartitionState(0, cast(Any, None)), (), cast(Any, commands), traced=traced)
    batch_spans = BatchSpans.of(spans, CommittedBatch(ReceivedBatch([part]), [result], [False]))
    if batch_spans is not None:
        await batch_spans.publish_events(cast(Any, PUBLISHER))
        batch_spans.end()
    push.begin(cast(Any, message), cast(Any, events))
    push.end()
    for request in reversed(requests):
        if request is not None:
            request.end(200)
