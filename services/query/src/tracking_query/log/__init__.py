"""The event log over HTTP, from any position.

May import `api`.
"""
