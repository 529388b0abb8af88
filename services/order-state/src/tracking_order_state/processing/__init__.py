"""The way of a batch: subscriptions, worker, batch processor. Beside it the steps of the system itself, the
sweeps that find work for them, and the watches.

May import `domain` and `adapters`.
"""
