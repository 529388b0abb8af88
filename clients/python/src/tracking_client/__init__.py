"""A Python client of the live stream and of the batch API.

Imports nothing else of this project.
"""


class TrackingClientError(Exception):
    """The base of all errors of this package."""
