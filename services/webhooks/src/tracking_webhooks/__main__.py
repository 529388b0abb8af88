"""Starts webhooks: ``python -m tracking_webhooks``."""

from tracking_shared.serving import run_service
from tracking_webhooks.app import serve
from tracking_webhooks.settings import WebhooksSettings

if __name__ == "__main__":
    run_service("webhooks", WebhooksSettings, serve)
