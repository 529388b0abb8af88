"""The errors of webhooks. Pure."""

from tracking_shared.errors import TrackingError


class WebhooksError(TrackingError):
    """The base of the errors of webhooks."""


class LeaseLost(WebhooksError):
    """The webhook was changed, deleted or taken over: whoever worked on it starts again with its document."""


class AddressRefused(WebhooksError):
    """The address of a receiver is not one that requests may go to. The message holds nothing of it."""
