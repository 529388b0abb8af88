"""Opens the exporter of a service's spans, if a collector is set."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec

from tracking_shared.errors import SettingsError
from tracking_shared.telemetry.spans import Spans


def is_tracing_asked_for(environment: Mapping[str, str]) -> bool:
    """True if OpenTelemetry's own variables name a collector of traces."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environment.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() == "none":
        return False
    return any(
        environment.get(name)
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )


def open_spans(service: str) -> Spans | None:
    """The exporter of this service's spans; None if no collector is set.

    Raises:
        SettingsError: they are asked for, and the extra `tracing` is not installed, or cannot send so.
    """
    if not is_tracing_asked_for(os.environ):
        return None
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if os.environ.get(variable, "http/protobuf") != "http/protobuf":
            raise SettingsError(f"{variable}: only http/protobuf is supported")
    if find_spec("opentelemetry.sdk") is None or find_spec("opentelemetry.exporter") is None:
        raise SettingsError("OTEL_EXPORTER_OTLP_ENDPOINT: install the extra `tracing` of tracking-shared")
    # Only here: who does not trace does not pay for the import.
    from tracking_shared.telemetry.otel_spans import OtelSpans  # noqa: PLC0415

    return OtelSpans(service)


@contextmanager
def spans_of(service: str) -> Iterator[Spans | None]:
    """`open_spans`, closed at the end."""
    spans = open_spans(service)
    try:
        yield spans
    finally:
        if spans is not None:
            spans.close()
