"""Decides which event is delivered next, when a failed one is tried again, and signatures. Pure.

May import `tracking_shared.contracts` and `policy`, and nothing of the other folders.
"""
