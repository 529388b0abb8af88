"""Spans by OpenTelemetry's SDK: batched and exported over OTLP as its own variables say (`OTEL_*`).

The one module that imports the SDK; it comes with the extra `tracing`. Sampling and encoding are done here:
with the SDK's own they cost several times as much as everything else that tracing does.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanContext as OtelContext
from opentelemetry.trace import TraceFlags

from tracking_shared.errors import SettingsError
from tracking_shared.telemetry.spans import Attributes, Kind, SpanContext

MAX_TEMPLATES = 1000
"""Of spans that differ in nothing but their ids and times; beyond that all are made again."""

_KINDS = {
    "server": Span.SPAN_KIND_SERVER,
    "producer": Span.SPAN_KIND_PRODUCER,
    "consumer": Span.SPAN_KIND_CONSUMER,
    "internal": Span.SPAN_KIND_INTERNAL,
}
_SCOPE = InstrumentationScope(name="tracking")


def sampled_share(environment: Mapping[str, str]) -> tuple[float, bool]:
    """Of the traces that begin here, and whether a caller's decision goes before: OpenTelemetry's samplers.

    Raises:
        SettingsError: there is no such sampler, or no such share.
    """
    name = environment.get("OTEL_TRACES_SAMPLER") or "parentbased_always_on"
    kind = name.removeprefix("parentbased_")
    if kind not in ("always_on", "always_off", "traceidratio"):
        raise SettingsError(f"OTEL_TRACES_SAMPLER: {name} is none of always_on, always_off, traceidratio")
    if kind != "traceidratio":
        return float(kind == "always_on"), kind != name
    try:
        share = float(environment.get("OTEL_TRACES_SAMPLER_ARG") or "1")
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise SettingsError("OTEL_TRACES_SAMPLER_ARG: write a number from 0 to 1")
    return share, kind != name


@dataclass(frozen=True, slots=True)
class _Ended:
    """A span as it waits to be exported. `context` is what the SDK's processor asks for."""

    name: str
    kind: Kind
    of: SpanContext
    parent: SpanContext | None
    start_ns: int
    end_ns: int
    attributes: Attributes
    links: Sequence[SpanContext]
    is_error: bool

    context: ClassVar = OtelContext(1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


class OtelSpans:
    """Hands spans that have ended to a thread that exports them; of too many, some are dropped."""

    def __init__(self, service: str) -> None:
        share, self._follows_parent = sampled_share(os.environ)
        self._bound = round(share * 2**64)
        self._processor = BatchSpanProcessor(_Exporter(_resource(service)))

    def is_sampled(self, parent: SpanContext | None, trace_id: str) -> bool:
        """As `Spans`."""
        if parent is not None and self._follows_parent:
            return parent.is_sampled
        return int(trace_id[16:], 16) < self._bound

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
        """As `Spans`."""
        ended = _Ended(name, kind, context, parent, start_ns, end_ns, attributes, links, is_error)
        self._processor.on_end(cast(Any, ended))

    def close(self) -> None:
        """As `Spans`."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]  # the library's own omission


class _Exporter(OTLPSpanExporter):
    """The SDK's own, with another encoding: the parts of a span that repeat are encoded once."""

    def __init__(self, resource: ResourceMessage) -> None:
        super().__init__()
        self._resource = resource
        self._templates: dict[tuple[Any, ...], Span] = {}

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        """Sends one batch; the SDK tries again where that makes sense."""
        scope = ScopeSpans(scope=_SCOPE, spans=map(self._encoded, spans))
        request = ExportTraceServiceRequest(
            resource_spans=[ResourceSpans(resource=self._resource, scope_spans=[scope])]
        )
        is_sent = self._client.export(request.SerializeToString()).success
        return SpanExportResult.SUCCESS if is_sent else SpanExportResult.FAILURE

    def _encoded(self, ended: _Ended) -> Span:
        span = Span()
        span.CopyFrom(self._template(ended))
        span.trace_id = bytes.fromhex(ended.of.trace_id)
        span.span_id = bytes.fromhex(ended.of.span_id)
        if ended.parent is not None:
            span.parent_span_id = bytes.fromhex(ended.parent.span_id)
        span.start_time_unix_nano = ended.start_ns
        span.end_time_unix_nano = max(ended.start_ns, ended.end_ns)
        for link in ended.links:
            span.links.add(trace_id=bytes.fromhex(link.trace_id), span_id=bytes.fromhex(link.span_id))
        return span

    def _template(self, ended: _Ended) -> Span:
        key = (ended.name, ended.kind, ended.is_error, *ended.attributes.items())
        template = self._templates.get(key)
        if template is None:
            if len(self._templates) >= MAX_TEMPLATES:
                self._templates.clear()
            template = self._templates[key] = Span(
                name=ended.name,
                kind=_KINDS[ended.kind],
                attributes=_key_values(ended.attributes),
                status=Status(code=Status.STATUS_CODE_ERROR) if ended.is_error else None,
            )
        return template


def _resource(service: str) -> ResourceMessage:
    """The attributes of the environment; our name for the service only where it has none."""
    given = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    is_named = os.environ.get("OTEL_SERVICE_NAME") or SERVICE_NAME in given
    resource = Resource.create({} if is_named else {SERVICE_NAME: service})
    return ResourceMessage(attributes=_key_values(cast(Attributes, resource.attributes)))


def _key_values(attributes: Attributes) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any_value(value)) for key, value in attributes.items()]


def _any_value(value: str | int | bool) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=str(value))
