"""Webhooks: registered, looked at and changed. The service webhooks delivers.

May import `api` and `log`.
"""
