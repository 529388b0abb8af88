"""The work of one replica: which endpoints are its own, the end of the log, and the deliveries.

May import `adapters`, `domain` and `errors`.
"""
