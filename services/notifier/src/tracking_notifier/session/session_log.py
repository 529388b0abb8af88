"""The log line of each stream session: from where a client began, how much it was sent, and why it ended. It
contains no token, and no name of a person, a merchant or an order.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic

from tracking_notifier.session.catchup import StreamCounts, Subscription
from tracking_notifier.stream.filters import Audience
from tracking_shared.contracts.access import Principal
from tracking_shared.contracts.cursors import Position
from tracking_shared.policy.limits import TokenBucket

log = logging.getLogger(__name__)

LINES_AT_ONCE = 5000
LINES_PER_SECOND = 100
"""Of one process. All dashboards of a replica may end at once; a client that reconnects in a loop must not
fill the disk."""

SUBJECT_HASH_DIGITS = 16

MAX_PARTITIONS_SHOWN = 64
"""A line is cut after 4,000 characters, and with 1,024 partitions a position alone would be longer."""


class SessionRecord:
    """The facts about one session that its line contains."""

    __slots__ = ("began_at", "counts", "end", "first", "newest", "subscriptions")

    def __init__(self, now: float) -> None:
        self.began_at = now
        self.first: Subscription | None = None
        """The first subscription."""
        self.newest: Subscription | None = None
        """The one that the session ended with."""
        self.subscriptions = 0
        """Those that the client asked for."""
        self.counts = StreamCounts()
        self.end: Position | None = None
        """The position up to which a live client was sent everything; None if it was not live at the end."""

    def add_subscription(self, subscription: Subscription) -> None:
        """Counts a subscription that the client asked for."""
        self.subscriptions += 1
        self.newest = subscription
        if self.first is None:
            self.first = subscription


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """The end of a session."""

    trace_id: str
    close_code: int
    seconds: float
    transport: str


class SessionLog:
    """Writes the lines of all sessions of the process, and limits their rate."""

    def __init__(self) -> None:
        self._bucket = TokenBucket(LINES_AT_ONCE, LINES_PER_SECOND, monotonic())
        self._left_out = 0

    def write(self, principal: Principal, record: SessionRecord, end: SessionEnd) -> None:
        """Logs the session, or counts it if there were too many."""
        if not self._bucket.take(monotonic()).allowed:
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        more = f" (and {left_out} more since the last line)" if left_out else ""
        log.info("%s%s", session_line(principal, record, end), more, extra={"trace_id": end.trace_id})


def session_line(principal: Principal, record: SessionRecord, end: SessionEnd) -> str:
    """The line of a session that has subscribed."""
    if record.first is None or record.newest is None:
        raise ValueError("a session without a subscription has no line")
    facts = {
        "subject": subject_hash(principal.subject),
        "token_merchants": "all" if principal.grant.every_merchant else len(principal.grant.merchants),
        "token_orders": _count(principal.grant.orders),
        **_filter_facts(record.newest.audience),
        "from": _start_of(record.first),
        "to": "not-live" if record.end is None else _position_text(record.end),
        "subscriptions": record.subscriptions,
        "resyncs": record.counts.resyncs,
        "events": record.counts.events,
        "seconds": f"{end.seconds:.1f}",
        "transport": end.transport,
        "close_code": end.close_code,
    }
    return "stream session ended: " + " ".join(f"{name}={value}" for name, value in facts.items())


def subject_hash(subject: str) -> str:
    """The first digits of the SHA-256 of a subject: whoever knows the subject finds its lines."""
    return sha256(subject.encode()).hexdigest()[:SUBJECT_HASH_DIGITS]


def _filter_facts(audience: Audience) -> dict[str, object]:
    chosen = audience.filter
    return {
        "merchants": _count(chosen.merchant_ids),
        "orders": _count(chosen.order_ids),
        "statuses": _count(chosen.statuses),
        "active": _flag(chosen.active),
        "overdue": _flag(chosen.overdue),
    }


def _flag(wanted: bool | None) -> str:
    return "any" if wanted is None else str(wanted).lower()


def _count(names: Collection[str] | None) -> int | str:
    return "any" if names is None else len(names)


def _start_of(subscription: Subscription) -> str:
    if subscription.snapshot:
        return "snapshot"
    return "now" if subscription.after is None else f"cursor:{_position_text(subscription.after)}"


def _position_text(position: Position) -> str:
    """The seqs by partition; of very many partitions only their sum."""
    if len(position.seqs) > MAX_PARTITIONS_SHOWN:
        return f"sum:{sum(position.seqs)}"
    return ",".join(map(str, position.seqs))
