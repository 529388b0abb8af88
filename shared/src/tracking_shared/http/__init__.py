"""The HTTP plumbing of every service: connections, limits, headers, problem responses, health.

May import `contracts`, `telemetry`, `storage` and `auth`.
"""
