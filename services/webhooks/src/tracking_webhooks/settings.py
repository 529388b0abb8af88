"""Settings of webhooks."""

from typing import Annotated

from pydantic import Field, field_validator

from tracking_shared.policy.receivers import checked_networks
from tracking_shared.settings import Settings


class WebhooksSettings(Settings):
    """The common settings and those of webhooks."""

    webhooks_port: Annotated[int, Field(ge=1, le=65535)] = 8005
    webhook_allow_networks: str = ""
    """Networks or addresses, comma-separated, that requests may go to though they are not public; also by
    http."""

    @field_validator("webhook_allow_networks")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        return checked_networks(text)
