"""notifier: events in, WebSockets out."""
