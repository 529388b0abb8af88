"""The metrics of notifier."""

from prometheus_client import Counter, Gauge

CONNECTIONS = Gauge("tracking_stream_connections", "Open streams: WebSockets and server-sent events")
PAUSED = Gauge(
    "tracking_stream_held_connections", "Connections whose client reads more slowly than the notifier sends"
)
RESYNCS = Counter(
    "tracking_stream_resyncs_total", "Clients told to discard their orders for a snapshot", ["reason"]
)
CLOSED = Counter("tracking_stream_closed_total", "Connections that the notifier closed", ["code"])
NO_REQUEST = Counter("tracking_stream_no_request_total", "Connections that ended before an HTTP request")
MESSAGES = Counter("tracking_stream_messages_total", "Messages with live events sent")
DELIVERED = Counter("tracking_stream_events_delivered_total", "Live events sent, once per connection")
FELL_BEHIND = Counter("tracking_stream_fell_behind_total", "Times that a client did not keep up")
REPLAYED = Counter("tracking_stream_events_replayed_total", "Missed events sent to clients that reconnected")
SNAPSHOT_ORDERS = Counter("tracking_stream_snapshot_orders_total", "Orders sent in snapshots")
FEED_EVENTS = Counter("tracking_feed_events_total", "Events published to the hub", ["source"])
LAG = Gauge("tracking_feed_lag_events", "Events in the log that the hub has not published yet", ["partition"])
UNDECODABLE = Counter("tracking_feed_undecodable_total", "Broker messages that are not valid events")
SILENCES = Counter(
    "tracking_feed_silences_total",
    "Connections closed because the broker delivered nothing while the log grew",
)
CONNECTED = Gauge("tracking_feed_connected", "1 while events come from the broker, 0 while only from the log")
