"""The log line of a stream session: its facts, its length, and how many there are."""

import hashlib
import logging

import pytest

from tracking_notifier.session import session_log
from tracking_notifier.session.catchup import StreamCounts, Subscription
from tracking_notifier.session.session_log import (
    LINES_AT_ONCE,
    SessionEnd,
    SessionLog,
    SessionRecord,
    session_line,
)
from tracking_notifier.stream.filters import Audience, Filter
from tracking_shared.contracts.access import Grant, Principal
from tracking_shared.contracts.cursors import MAX_PARTITIONS, Position
from tracking_shared.contracts.documents import MAX_SEQ
from tracking_shared.telemetry.logs import MAX_MESSAGE_CHARS

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
END = SessionEnd(TRACE_ID, 1000, 62.44, "websocket")


def principal(grant: Grant) -> Principal:
    return Principal(
        subject="ada@acme", source_type="operator", scopes=frozenset(), grant=grant, expires_at=2e9
    )


def record_of(subscription: Subscription) -> SessionRecord:
    record = SessionRecord(0.0)
    record.add_subscription(subscription)
    return record


def test_a_line_has_the_facts_and_no_name() -> None:
    grant = Grant(merchants=frozenset({"secret-merchant", "beta"}))
    chosen = Filter(merchant_ids=frozenset({"secret-merchant"}), active=True)
    record = record_of(Subscription(Audience(grant, chosen), Position("abc", (17, 21)), snapshot=False))
    record.add_subscription(Subscription(Audience(grant, Filter(overdue=True)), None, snapshot=True))
    record.counts = StreamCounts(events=312, resyncs=1)
    record.end = Position("abc", (40, 21))
    line = session_line(principal(grant), record, END)
    subject = hashlib.sha256(b"ada@acme").hexdigest()[:16]
    assert line == (
        f"stream session ended: subject={subject} token_merchants=2 token_orders=any merchants=any orders=any"
        " statuses=any active=any overdue=true from=cursor:17,21 to=40,21 subscriptions=2 resyncs=1"
        " events=312 seconds=62.4 transport=websocket close_code=1000"
    )


@pytest.mark.parametrize(("after", "snapshot", "start"), [(None, True, "snapshot"), (None, False, "now")])
def test_a_line_says_from_where_a_client_without_a_cursor_began(
    after: Position | None, *, snapshot: bool, start: str
) -> None:
    grant = Grant(merchants=frozenset("*"))
    line = session_line(
        principal(grant), record_of(Subscription(Audience(grant, Filter()), after, snapshot)), END
    )
    assert f" from={start} to=not-live " in line
    assert " token_merchants=all " in line


@pytest.mark.parametrize("partitions", [session_log.MAX_PARTITIONS_SHOWN, MAX_PARTITIONS])
def test_the_longest_line_is_not_cut(partitions: int) -> None:
    grant = Grant(merchants=frozenset("*"))
    longest = Position("abc", (MAX_SEQ,) * partitions)
    record = record_of(Subscription(Audience(grant, Filter()), longest, snapshot=False))
    record.end = longest
    assert len(session_line(principal(grant), record, END)) < MAX_MESSAGE_CHARS


def test_the_lines_are_limited_and_those_left_out_are_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(session_log, "monotonic", lambda: now)
    grant = Grant(merchants=frozenset("*"))
    record = record_of(Subscription(Audience(grant, Filter()), None, snapshot=True))
    written = SessionLog()
    with caplog.at_level(logging.INFO):
        for _ in range(LINES_AT_ONCE + 7):
            written.write(principal(grant), record, END)
        assert len(caplog.records) == LINES_AT_ONCE
        now += 1.0
        written.write(principal(grant), record, END)
    last = caplog.records[-1]
    assert last.getMessage().endswith("(and 7 more since the last line)")
    assert last.__dict__["trace_id"] == TRACE_ID
    assert last.levelno == logging.INFO
