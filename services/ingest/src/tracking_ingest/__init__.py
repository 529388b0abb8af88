"""ingest: HTTP in, commands out."""
