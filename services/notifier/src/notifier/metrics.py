"""What notifier counts."""

from prometheus_client import Counter, Gauge

CONNECTIONS = Gauge("tracking_stream_connections", "Open WebSocket connections")
CLOSED = Counter("tracking_stream_closed_total", "Connections that we closed", ["code"])
NO_REQUEST = Counter("tracking_stream_no_request_total", "Connections that ended before a request of HTTP")
MESSAGES = Counter("tracking_stream_messages_total", "Messages with live events sent")
DELIVERED = Counter("tracking_stream_events_delivered_total", "Live events sent, once per connection")
FELL_BEHIND = Counter("tracking_stream_fell_behind_total", "Times that a client did not keep up")
REPLAYED = Counter("tracking_stream_events_replayed_total", "Missed events sent to clients that came back")
SNAPSHOT_ORDERS = Counter("tracking_stream_snapshot_orders_total", "Orders sent in snapshots")
TAKEN = Counter("tracking_feed_events_total", "Events taken", ["source"])
UNDECODABLE = Counter("tracking_feed_undecodable_total", "Messages of the broker that were no events")
CONNECTED = Gauge("tracking_feed_connected", "1 while events come from the broker, 0 while only from the log")
