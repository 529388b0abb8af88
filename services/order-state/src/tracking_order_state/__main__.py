"""Starts order-state: ``python -m tracking_order_state``."""

from tracking_order_state.app import serve
from tracking_order_state.settings import OrderStateSettings
from tracking_shared.serving import run_service

if __name__ == "__main__":
    run_service("order-state", OrderStateSettings, serve)
