"""One order, its history, and lists of orders, also as files.

May import `api`.
"""
