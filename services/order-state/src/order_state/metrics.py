"""What order-state counts."""

from prometheus_client import Counter, Gauge, Histogram

OUTCOMES = Counter("tracking_outcomes_total", "Commands decided", ["outcome"])
PASS_COMMANDS = Histogram(
    "tracking_pass_commands",
    "Commands decided together",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000),
)
PASS_SECONDS = Histogram(
    "tracking_pass_seconds",
    "From taking a micro-batch to its acknowledgement",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
COMMAND_SECONDS = Histogram(
    "tracking_command_seconds",
    "From when ingest took a command to its commit",
    buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200),
)
DEAD_LETTERED = Counter("tracking_dead_lettered_total", "Messages that were no commands for their queue")
ANNOUNCEMENTS_REFUSED = Counter(
    "tracking_announcements_refused_total", "Messages of events that a full queue did not take"
)
FENCED = Counter("tracking_fenced_total", "Writes refused because another worker owns the partition")
PARKED_ORDERS = Gauge("tracking_parked_orders", "Orders that wait for an operator", ["partition"])
HORIZON = Gauge(
    "tracking_horizon_timestamp_seconds",
    "Time before which nothing can be recorded in the partition any more, in seconds since 1970",
    ["partition"],
)
SEQ = Gauge("tracking_partition_seq", "Newest event committed by this process", ["partition"])
STALLED_PARTITIONS = Gauge(
    "tracking_stalled_partitions", "Partitions of this process that cannot go on and are tried again"
)
OLDEST_BATCH_SECONDS = Gauge(
    "tracking_oldest_batch_seconds", "Age of the oldest batch that this process has in hand; 0: none"
)
