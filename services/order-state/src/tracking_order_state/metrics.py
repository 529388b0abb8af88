"""The metrics of order-state."""

from prometheus_client import Counter, Gauge, Histogram

OUTCOMES = Counter("tracking_outcomes_total", "Commands decided", ["outcome"])
BATCH_COMMANDS = Histogram(
    "tracking_pass_commands",
    "Commands of a batch, which are committed in one transaction",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000),
)
BATCH_SECONDS = Histogram(
    "tracking_pass_seconds",
    "From the start of a batch to its acknowledgement",
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
ANNOUNCEMENTS_DROPPED = Counter(
    "tracking_announcements_dropped_total",
    "Messages of events that were not sent, because too many before them are not confirmed",
)
BROKER_SILENCES = Counter(
    "tracking_broker_silences_total",
    "Connections given up because the broker delivered nothing while commands waited",
)
BROKER_SILENT = Gauge(
    "tracking_broker_silent", "1 from such a loss until something arrives, or nothing waits any more"
)
FENCED = Counter("tracking_fenced_total", "Writes refused because another worker owns the partition")
ORDER_CACHE_COMMANDS = Counter(
    "tracking_order_cache_commands_total",
    "Commands by what the cache of orders knew: hit, miss, or doubt (a hit that was read after all)",
    ["result"],
)
ORDER_CACHE_REFUTED = Counter(
    "tracking_order_cache_refuted_total", "Transactions tried again because an update was not new as assumed"
)
ORDER_CACHE_BYTES = Gauge("tracking_order_cache_bytes", "Estimated size of the cache of orders")
PARKED_ORDERS = Gauge("tracking_parked_orders", "Orders that wait for an operator", ["partition"])
HELD_UPDATES = Gauge(
    "tracking_held_updates", "Updates that came too early and wait for what comes before them", ["partition"]
)
HELD_DECIDED = Counter(
    "tracking_held_decided_total", "Held updates that were decided by this process", ["outcome"]
)
for _outcome in ("applied", "rejected"):
    # From the start, so that the first one of either is seen as an increase.
    HELD_DECIDED.labels(_outcome)
HELD_SWEEP_AGE = Gauge(
    "tracking_held_sweep_age_seconds",
    "Time since all held updates whose time was over were decided, of the partition where it is longest",
)
HORIZON = Gauge(
    "tracking_horizon_timestamp_seconds",
    "Time before which nothing can be recorded in the partition any more, in seconds since 1970",
    ["partition"],
)
OVERDUE = Counter("tracking_overdue_total", "Orders whose due time has passed, as recorded by this process")
OVERDUE_SWEEP_AGE = Gauge(
    "tracking_overdue_sweep_age_seconds",
    "Time since all orders that were due were recorded as overdue, of the partition where it is longest",
)
ERASED = Counter("tracking_erased_total", "Orders whose customer was erased by this process")
ARCHIVED = Counter("tracking_archived_total", "Orders that were archived by this process")
OPEN_ERASURES = Gauge("tracking_open_erasures", "Erasures of persons that are accepted and not done")
SEQ = Gauge("tracking_partition_seq", "Newest event committed by this process", ["partition"])
STALLED_PARTITIONS = Gauge(
    "tracking_stalled_partitions", "Partitions of this process that cannot go on and are tried again"
)
WAITS_FOR_UPGRADE = Gauge(
    "tracking_waits_for_upgrade",
    "1 while the next message of the partition is in a newer format than this release reads; else 0",
    ["partition"],
)
OLDEST_COMMAND_SECONDS = Gauge(
    "tracking_oldest_command_seconds",
    "Age, since ingest took it, of the oldest command that has been delivered and not decided; 0: none",
    ["partition"],
)
OLDEST_BATCH_SECONDS = Gauge(
    "tracking_oldest_batch_seconds", "Age of the oldest batch that this process has not acknowledged; 0: none"
)
