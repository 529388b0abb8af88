"""One connection: handshake, authentication, messages, catching up, delivery, limits.

May import `hub`, `log`, `stream` and `errors`.
"""
