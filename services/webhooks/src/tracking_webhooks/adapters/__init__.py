"""Database and HTTP: the endpoints and their leases, the log, and the requests to receivers.

May import `domain` and `errors`.
"""
