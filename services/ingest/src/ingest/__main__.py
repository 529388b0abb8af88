"""Starts ingest: ``python -m ingest``."""

from ingest.app import serve
from ingest.settings import IngestSettings
from shared.serving import run_service

if __name__ == "__main__":
    run_service("ingest", IngestSettings, serve)
