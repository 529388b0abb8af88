"""Starts query: ``python -m tracking_query``."""

from tracking_query.app import serve
from tracking_query.settings import QuerySettings
from tracking_shared.serving import run_service

if __name__ == "__main__":
    run_service("query", QuerySettings, serve)
