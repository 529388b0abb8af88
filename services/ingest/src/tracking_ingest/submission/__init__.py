"""Sends commands to order-state in batches, and takes their outcomes back.

Imports no HTTP.
"""
