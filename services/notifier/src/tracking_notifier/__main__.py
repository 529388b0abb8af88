"""Starts notifier: ``python -m tracking_notifier``."""

from tracking_notifier.app import serve
from tracking_notifier.settings import NotifierSettings
from tracking_shared.serving import run_service

if __name__ == "__main__":
    run_service("notifier", NotifierSettings, serve)
