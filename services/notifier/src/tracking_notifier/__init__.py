"""notifier: receives the events of orders and streams them to dashboards over WebSockets."""
