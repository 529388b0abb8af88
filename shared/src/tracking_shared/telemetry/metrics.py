"""Metrics (Prometheus): the registry of a process, and those that every HTTP service has."""

from prometheus_client import REGISTRY, Counter, Histogram, generate_latest

METRICS_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

REQUESTS = Counter("tracking_http_requests_total", "HTTP requests answered", ["method", "status"])
REQUEST_SECONDS = Histogram(
    "tracking_http_request_seconds",
    "Time from the request's first byte to the end of the answer",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)

REFUSED = Counter(
    "tracking_refused_total",
    "Requests and connections that were refused because too much is in progress",
    ["limit", "exceeded"],
)


def render_metrics() -> bytes:
    """Everything that this process counts, in the text format."""
    return generate_latest(REGISTRY)
