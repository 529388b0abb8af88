"""The database: its adapter, the stored documents, and the reads that several services make.

May import `contracts` and `telemetry`.
"""
