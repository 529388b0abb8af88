"""The meaning of an answer for a delivery. No I/O, no clock."""

from tracking_webhooks.domain.progress import Failure

_GONE = 410
_TOO_MANY = 429
_UNAVAILABLE = 503

NOT_REACHED = frozenset({"connection", "certificate", "tls", "address", "name"})
"""Errors before the receiver had seen the request: no other event would do better."""


def is_delivered(status: int | None) -> bool:
    """True if the receiver has taken the event."""
    return status is not None and 200 <= status < 300


def failure_of(status: int | None, error: str | None, *, asked_to_wait: bool) -> Failure:
    """The kind of a failure. `asked_to_wait`: the answer has a `Retry-After`."""
    if status == _GONE:
        return Failure.GONE
    if status == _TOO_MANY or (status == _UNAVAILABLE and asked_to_wait):
        return Failure.ENDPOINT
    return Failure.ENDPOINT if error in NOT_REACHED else Failure.EVENT
