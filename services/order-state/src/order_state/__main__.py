"""Starts order-state: ``python -m order_state``."""

from order_state.app import serve
from order_state.settings import OrderStateSettings
from shared.serving import run_service

if __name__ == "__main__":
    run_service("order-state", OrderStateSettings, serve)
