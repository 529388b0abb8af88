"""ingest: takes creates and updates over HTTP, publishes them as commands, and returns the outcomes."""
