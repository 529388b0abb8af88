"""The errors of this package."""

from tracking_client.results import Problem


class TrackingClientError(Exception):
    """The base of all errors of this package."""


class BatchRefused(TrackingClientError):
    """The server refuses the request itself (token, size, address), and would refuse it later too."""

    def __init__(self, message: str, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class Undecided(TrackingClientError):
    """Some operations are not decided yet. The message says why. Sending them again is safe."""

    def __init__(self, reason: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class SenderClosed(TrackingClientError):
    """The sender is not open, or was closed before the operation was decided."""


class TokenUnavailable(TrackingClientError):
    """Raised by token functions: there is no token now, but there may be one later."""
