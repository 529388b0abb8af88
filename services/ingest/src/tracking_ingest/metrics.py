"""The metrics of ingest."""

from prometheus_client import Counter, Gauge, Histogram

ANSWERS = Counter("tracking_ingest_answers_total", "Commands answered", ["outcome"])
UNDECODABLE = Counter("tracking_ingest_undecodable_total", "Messages of the broker that were no replies")
PUBLISHED_COMMANDS = Histogram(
    "tracking_ingest_published_commands",
    "Commands in one message",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
)
BROKER_BLOCKED = Gauge(
    "tracking_ingest_broker_blocked", "1 while the broker takes no messages, for an alarm of its own"
)
