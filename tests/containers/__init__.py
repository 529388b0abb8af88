"""`make test-containers`: the Compose file as it is, on an engine of its own, with faults."""
