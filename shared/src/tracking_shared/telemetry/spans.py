"""Traces: the trace context of callers (W3C Trace Context, level 1), and the spans of a service."""

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from time import time_ns
from typing import Literal, Protocol

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NAMED = re.compile(rb'"traceparent":"00-([0-9a-f]{32})-')

MAX_TRACES = 100
"""Told of one message: as many as fit a line of the log."""


def traces_in(body: bytes) -> list[str]:
    """The trace ids of the commands in a message, even if it cannot be decoded; the first `MAX_TRACES`."""
    return [match[1].decode() for match in islice(_NAMED.finditer(body), MAX_TRACES)]


def trace_id_of(traceparent: str | None) -> str:
    """The trace id of a valid `traceparent` header, else a new one."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match and set(match[1]) != {"0"}:
        return match[1]
    return secrets.token_hex(16)


def parse_traceparent(traceparent: str | None) -> tuple[str, str, bool] | None:
    """Trace id, span id, and whether it is sampled; None if it is not valid."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match is None or set(match[1]) == {"0"} or set(match[2]) == {"0"}:
        return None
    return match[1], match[2], bool(int(match[3], 16) & 1)


def traceparent_of(trace_id: str) -> str:
    """A `traceparent` for work that we do within this trace."""
    return f"00-{trace_id}-{secrets.token_hex(8)}-01"


Kind = Literal["server", "producer", "consumer", "internal"]
Attributes = Mapping[str, str | int | bool]

TRACES_HEADER = "traceparents"
"""Of a message of the broker: a table from the number of a command or event in its body to the `traceparent`
of the span that sent it. Only what is sampled is in it; without any, the message has no header."""

MAX_TRACES_IN_MESSAGE = 500
"""As many as there may be commands in one."""

MAX_LINKS = 128
"""Of one span: the default bound of OpenTelemetry."""


@dataclass(frozen=True, slots=True)
class SpanContext:
    """Names a span. Ids in hexadecimal."""

    trace_id: str
    span_id: str
    is_sampled: bool = True

    @property
    def traceparent(self) -> str:
        """For whatever follows from it."""
        return f"00-{self.trace_id}-{self.span_id}-0{self.is_sampled:d}"

    def child(self) -> "SpanContext":
        """A new span of the same trace."""
        return SpanContext(self.trace_id, secrets.token_hex(8), self.is_sampled)


def new_trace() -> SpanContext:
    """The first span of a trace of its own."""
    return SpanContext(secrets.token_hex(16), secrets.token_hex(8))


def context_of(traceparent: str | None) -> SpanContext | None:
    """The span that a `traceparent` names; None if it is not valid."""
    parsed = parse_traceparent(traceparent)
    return None if parsed is None else SpanContext(*parsed)


request_span: ContextVar[SpanContext | None] = ContextVar("request_span", default=None)
"""That of the current request, if it is sampled."""


class Spans(Protocol):
    """Takes spans that have ended, and exports them from time to time. It never waits and never raises."""

    def is_sampled(self, parent: SpanContext | None, trace_id: str) -> bool:
        """Decides on the recording of a trace that begins here, or with `parent` somewhere else."""
        ...

    def record(
        self,
        name: str,
        kind: Kind,
        context: SpanContext,
        *,
        parent: SpanContext | None,
        start_ns: int,
        end_ns: int,
        attributes: Attributes,
        links: Sequence[SpanContext] = (),
        is_error: bool = False,
    ) -> None:
        """Takes a span that is sampled. Times are nanoseconds since 1970."""
        ...

    def close(self) -> None:
        """Exports what is left, for some seconds at most."""
        ...


def headers_for(contexts: Mapping[int, SpanContext]) -> dict[str, object] | None:
    """The headers of a message with these spans, by the number of what they are for. `traceparent`, which
    other tools look for, is that of the first one.
    """
    if not contexts:
        return None
    table = {str(number): context.traceparent for number, context in contexts.items()}
    return {"traceparent": next(iter(table.values())), TRACES_HEADER: table}


def contexts_in(headers: Mapping[str, object]) -> dict[int, SpanContext]:
    """The reverse of `headers_for`. What is not valid is left out: anybody may have sent the message."""
    table = headers.get(TRACES_HEADER)
    if not isinstance(table, dict) or len(table) > MAX_TRACES_IN_MESSAGE:
        return {}
    found: dict[int, SpanContext] = {}
    for number, traceparent in table.items():
        context = context_of(traceparent) if isinstance(traceparent, str) else None
        if context is not None and context.is_sampled and str(number).isdecimal():
            found[int(number)] = context
    return found


def messaging(
    operation: Literal["publish", "process"], destination: str, *, batch: int | None = None
) -> dict[str, str | int | bool]:
    """The attributes of a hop over the broker, by OpenTelemetry's semantic conventions."""
    attributes: dict[str, str | int | bool] = {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": operation,
        "messaging.operation.type": "send" if operation == "publish" else "process",
        "messaging.destination.name": destination,
    }
    if batch is not None and batch > 1:
        attributes["messaging.batch.message_count"] = batch
    return attributes


def since_ns(seconds: float) -> int:
    """The time so many seconds ago, in nanoseconds since 1970."""
    return time_ns() - int(seconds * 1e9)


def first_links(contexts: Iterable[SpanContext]) -> list[SpanContext]:
    """As many as one span may have."""
    return [context for context, _ in zip(contexts, range(MAX_LINKS), strict=False)]
