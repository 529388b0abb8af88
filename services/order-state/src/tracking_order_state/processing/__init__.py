"""The way of a batch: consumer, worker, batch processor; and the watches beside it.

May import `domain` and `adapters`.
"""
