"""Bodies of requests about webhooks."""

from collections.abc import Collection
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from tracking_query.api.parameters import MAX_REPEATS
from tracking_shared.contracts.cursors import MAX_CURSOR_CHARACTERS
from tracking_shared.contracts.documents import EventType
from tracking_shared.contracts.identifiers import Identifier
from tracking_shared.contracts.texts import CONTROL_FREE_PATTERN
from tracking_shared.contracts.timestamps import Timestamp
from tracking_shared.contracts.webhooks import FilterDocument
from tracking_shared.policy.receivers import MAX_URL_CHARACTERS

MAX_DESCRIPTION_CHARACTERS = 200

Several = Field(min_length=1, max_length=MAX_REPEATS)
Cursor = Annotated[str, Field(min_length=1, max_length=MAX_CURSOR_CHARACTERS)]
Url = Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARACTERS)]
Description = Annotated[
    str, StringConstraints(max_length=MAX_DESCRIPTION_CHARACTERS, pattern=CONTROL_FREE_PATTERN)
]
Status = Annotated[str, Field(max_length=32)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class FilterBody(_Body):
    """The events that are wanted. A member that is not there accepts every value."""

    merchant_id: Annotated[list[Identifier], Several] | None = None
    order_id: Annotated[list[Identifier], Several] | None = None
    status: Annotated[list[Status], Several] | None = None
    """Of the order after the event."""
    type: Annotated[list[EventType], Several] | None = None

    def document(self) -> FilterDocument:
        """As it is stored and shown."""
        members = {
            "merchant_id": self.merchant_id,
            "order_id": self.order_id,
            "status": self.status,
            "type": self.type,
        }
        filled: FilterDocument = {}
        for name, values in members.items():
            if values is not None:
                filled[name] = _sorted(values)  # type: ignore[literal-required]
        return filled


def _sorted(values: Collection[str]) -> list[str]:
    return sorted(set(values))


class CreateWebhook(_Body):
    """A new webhook."""

    url: Url
    """Begins with `https://`; its host has a public address."""
    filter: FilterBody = FilterBody()
    """Without it: every event that the token reaches."""
    description: Description | None = None
    after: Cursor | None = None
    """The cursor behind which it begins. Without it: events from now on."""


class ChangeWebhook(_Body):
    """The changes. A member that is not there stays; `filter` is replaced as a whole."""

    url: Url | None = None
    filter: FilterBody | None = None
    description: Description | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("must name something that changes")
        return self


class ReplayWebhook(_Body):
    """The place to go on from: behind a cursor, or at a time."""

    after: Cursor | None = None
    start: Annotated[Timestamp | None, Field(alias="from")] = None

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if (self.after is None) == (self.start is None):
            raise ValueError("must have either after or from")
        return self
