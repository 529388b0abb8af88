"""The event log: reads it, watches its end, and feeds its events to the hub.

May import `hub`, `stream` and `errors`.
"""
