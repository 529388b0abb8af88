"""The broker: its adapter, the only package that imports aio-pika, and the names of exchanges and queues.

May import `contracts` and `telemetry`.
"""
