"""Traces over the broker, and what tracing costs where it is off."""

import subprocess
import sys

import pytest

from tracking_shared.telemetry.spans import (
    SpanContext,
    context_of,
    contexts_in,
    headers_for,
)
from tracking_shared.telemetry.tracing import is_tracing_asked_for, open_spans

SPAN = SpanContext("a" * 32, "b" * 16)


def test_the_headers_of_a_message_carry_the_spans_of_what_is_in_it() -> None:
    contexts = {0: SPAN, 7: SPAN.child()}
    headers = headers_for(contexts)
    assert headers is not None
    assert headers["traceparent"] == SPAN.traceparent == f"00-{'a' * 32}-{'b' * 16}-01"
    assert contexts_in(headers) == contexts


def test_a_message_of_which_nothing_is_sampled_has_no_headers() -> None:
    assert headers_for({}) is None
    assert contexts_in({}) == {}


@pytest.mark.parametrize(
    "table",
    [
        None,
        "00-",
        ["00-"],
        {"0": 5},
        {"0": "00-nonsense"},
        {"x": SPAN.traceparent},
        {"-1": SPAN.traceparent},
        {"0": SpanContext("a" * 32, "b" * 16, is_sampled=False).traceparent},
        {"0": f"00-{'0' * 32}-{'b' * 16}-01"},
        {"0": f"00-{'a' * 32}-{'0' * 16}-01"},
        {str(number): SPAN.traceparent for number in range(501)},
    ],
)
def test_headers_that_make_no_sense_are_no_spans(table: object) -> None:
    assert contexts_in({"traceparents": table}) == {}


def test_what_a_caller_says_of_sampling_is_kept() -> None:
    sampled, not_sampled = (
        context_of(f"00-{'a' * 32}-{'b' * 16}-03"),
        context_of(f"00-{'a' * 32}-{'b' * 16}-02"),
    )
    assert sampled == SPAN
    assert not_sampled is not None
    assert not not_sampled.is_sampled
    assert context_of(None) is context_of("01-x") is None


@pytest.mark.parametrize(
    ("environment", "is_asked_for"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
    ],
)
def test_it_is_on_where_somebody_takes_traces(environment: dict[str, str], is_asked_for: bool) -> None:
    assert is_tracing_asked_for(environment) is is_asked_for


def test_off_there_is_nothing_to_record_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    assert open_spans("x") is None


@pytest.mark.parametrize("service", ["ingest", "order_state", "notifier", "query"])
def test_off_the_sdk_is_not_imported(service: str) -> None:
    program = (
        f"import sys, tracking_{service}.app\n"
        "unwanted = 'opentelemetry.sdk', 'opentelemetry.exporter'\n"
        "found = [name for name in sys.modules if name.startswith(unwanted)]\n"
        "sys.exit(str(found) if found else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=50)
