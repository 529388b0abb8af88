"""Starts query: ``python -m query``."""

from query.app import serve
from query.settings import QuerySettings
from shared.serving import run_service

if __name__ == "__main__":
    run_service("query", QuerySettings, serve)
