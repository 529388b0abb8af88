"""Starts notifier: ``python -m notifier``."""

from notifier.app import serve
from notifier.settings import NotifierSettings
from shared.serving import run_service

if __name__ == "__main__":
    run_service("notifier", NotifierSettings, serve)
