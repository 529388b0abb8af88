"""The spans of published messages, in the traces of the requests whose commands they contain."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import time_ns
from typing import Any

from tracking_ingest.submission.pipeline import Submission
from tracking_shared.telemetry.spans import SpanContext, Spans, headers_for, messaging


@contextmanager
def publish_spans(
    spans: Spans, destination: str, group: Sequence[Submission]
) -> Iterator[dict[str, Any] | None]:
    """The headers of the message for these submissions. Within it is published: a span in the trace of each
    request that is sampled, from its first submission to the end, which is the broker's confirm.
    """
    sent: dict[SpanContext, list[Submission]] = {}
    contexts: dict[int, SpanContext] = {}
    made: dict[SpanContext, SpanContext] = {}
    for number, submission in enumerate(group):
        if (request := submission.request_span) is not None:
            if request not in made:
                made[request], sent[request] = request.child(), []
            contexts[number] = made[request]
            sent[request].append(submission)
    is_error = True
    try:
        yield headers_for(contexts)
        is_error = False
    finally:
        for request, own in sent.items():
            spans.record(
                f"publish {destination}",
                "producer",
                made[request],
                parent=request,
                start_ns=own[0].submitted_ns,
                end_ns=time_ns(),
                attributes=messaging("publish", destination, batch=len(own)),
                is_error=is_error,
            )
