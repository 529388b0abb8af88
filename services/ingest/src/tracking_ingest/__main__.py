"""Starts ingest: ``python -m tracking_ingest``."""

from tracking_ingest.app import serve
from tracking_ingest.settings import IngestSettings
from tracking_shared.serving import run_service

if __name__ == "__main__":
    run_service("ingest", IngestSettings, serve)
