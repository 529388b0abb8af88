"""The metrics of webhooks. Labels are few: none names an endpoint or a merchant."""

from prometheus_client import Counter, Gauge, Histogram

DELIVERIES = Counter(
    "tracking_webhook_deliveries_total", "Requests to receivers, by what came of them", ["outcome"]
)
DELIVERY_SECONDS = Histogram(
    "tracking_webhook_delivery_seconds",
    "Duration of requests to receivers",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15),
)
LATENCY_SECONDS = Histogram(
    "tracking_webhook_latency_seconds",
    "From the commit of an event to its first successful delivery",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300, 3600),
)
WEBHOOKS = Gauge("tracking_webhooks", "Webhooks that this process delivers for, by state", ["state"])
DELAYED_ORDERS = Gauge("tracking_webhook_delayed_orders", "Orders that wait for another attempt")
BEHIND_EVENTS = Gauge(
    "tracking_webhook_behind_events",
    "Positions of the log behind which the webhook is that is furthest behind, disabled ones aside",
)
LEASE_HELD = Gauge("tracking_webhook_lease_held", "1: this process may send; 0: others may have taken over")
UNASSIGNED = Gauge(
    "tracking_webhooks_unassigned", "Webhooks that no living process delivers for, as this one sees it"
)
IN_FLIGHT = Gauge("tracking_webhook_requests_in_flight", "Requests to receivers that were not answered yet")
TAIL_EVENTS = Counter("tracking_webhook_log_events_total", "Events read at the end of the log")
MISSED_EVENTS = Counter(
    "tracking_webhook_missed_events_total",
    "Events that were archived before a webhook came to them, those that its filter refuses included",
)
LEASES_LOST = Counter(
    "tracking_webhook_leases_lost_total", "Webhooks that were changed or taken over meanwhile"
)
