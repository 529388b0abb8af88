"""The errors of notifier. Pure."""

from tracking_shared.contracts.problems import Problem
from tracking_shared.errors import TrackingError


class NotifierError(TrackingError):
    """The base of the errors of notifier."""


class UndecodableEvents(NotifierError):
    """The body of a broker message is not a batch of events."""


class HubLagging(NotifierError):
    """The hub did not reach the client's position in time, or has no position yet."""


class LogReplaced(NotifierError):
    """The event log was replaced by another one while a client caught up."""


class PositionExpired(NotifierError):
    """Events after the client's position were archived: the log begins later now."""


class Refusal(NotifierError):
    """Ends the connection with a close code, after a problem document if there is one."""

    def __init__(self, code: int, reason: str, problem: Problem | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.problem = problem
