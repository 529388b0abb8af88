"""Logs, metrics and trace context.

May import `contracts`.
"""
