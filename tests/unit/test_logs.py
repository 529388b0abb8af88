"""Lines of the log: under which trace, and how many of them."""

import logging

import orjson
import pytest

from tracking_shared.telemetry.logs import PACE_SECONDS, JsonFormatter, PacedLog, trace_id_var

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def record(**extra: str) -> logging.LogRecord:
    return logging.getLogger("test").makeRecord("test", logging.INFO, "", 0, "said", (), None, extra=extra)


def test_a_line_has_the_trace_that_it_names_or_else_that_of_the_request() -> None:
    token = trace_id_var.set("of the request")
    try:
        assert orjson.loads(JsonFormatter("ingest").format(record()))["trace_id"] == "of the request"
        assert orjson.loads(JsonFormatter("ingest").format(record(trace_id=TRACE_ID)))["trace_id"] == TRACE_ID
    finally:
        trace_id_var.reset(token)
    assert "trace_id" not in orjson.loads(JsonFormatter("ingest").format(record()))


def test_a_cause_has_one_line_a_second_that_counts_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    paced = PacedLog(logging.getLogger("test"), lambda: now)
    for _ in range(1000):
        paced.warning("broker-unavailable", "not connected")
    paced.warning("overloaded", "too much")
    now += PACE_SECONDS
    for _ in range(3):
        paced.warning("broker-unavailable", "not connected")
    now += PACE_SECONDS
    paced.warning("broker-unavailable", "a full queue")
    now += PACE_SECONDS
    paced.warning("broker-unavailable", "a full queue")
    assert [line.getMessage() for line in caplog.records] == [
        "broker-unavailable: not connected",
        "overloaded: too much",
        "broker-unavailable: not connected (and 999 more since the last line)",
        "broker-unavailable: a full queue (and 2 more since the last line)",
        "broker-unavailable: a full queue",
    ]
