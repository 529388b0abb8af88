"""The database and the broker as order-state uses them: store, ownership, search index, publisher.

May import `domain`.
"""
