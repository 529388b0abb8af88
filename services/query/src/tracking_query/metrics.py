"""Metrics of query."""

from prometheus_client import Gauge

EXPORTS = Gauge("tracking_query_exports", "Exports that are running")
WAITERS = Gauge("tracking_query_waiters", "Requests that wait for the log to go on")
