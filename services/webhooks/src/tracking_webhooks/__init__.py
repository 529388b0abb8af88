"""webhooks: sends the events of the log to the endpoints that callers have registered."""
