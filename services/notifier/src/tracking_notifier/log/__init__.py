"""Receives events from the broker, fills gaps from the event log, watches its end, and feeds the hub.

May import `hub`, `stream` and `errors`.
"""
