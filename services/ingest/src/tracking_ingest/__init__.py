"""ingest: takes creates and updates over HTTP, publishes them as commands, and answers with their outcomes."""
