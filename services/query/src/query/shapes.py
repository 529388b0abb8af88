"""What query answers with: the public shapes of its documents, beside those of `shared.messages`.

They describe and are not run on the way of an answer; the integration tests check the real answers
against them.
"""

from typing import Annotated, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from shared.documents import Metadata
from shared.identifiers import Identifier
from shared.messages import (
    DESCRIBED,
    CloudEvent,
    CursorText,
    OrderView,
    SourceView,
    StatusText,
    TimeText,
    UpdateOutcome,
    Version,
)


@with_config(DESCRIBED)
class SearchNote(TypedDict):
    """What a search looked at."""

    complete: bool
    """Whether no more orders match than those that were looked at, the newest 2,000."""
    behind: Annotated[int, Field(ge=0)]
    """Newest changes that the search does not know yet."""


@with_config(DESCRIBED)
class OrderPage(TypedDict):
    """A page of the list of orders."""

    items: list[OrderView]
    next_cursor: str | None
    """The `cursor` of the next page; `null` on the last one."""
    as_of: NotRequired[TimeText]
    """With `created_*` or `updated_*`: nothing recorded before can still appear. The same on all pages."""
    search: NotRequired[SearchNote]
    """With `q`."""


@with_config(DESCRIBED)
class HistoryItem(TypedDict):
    """One change of an order."""

    version: Version
    status: StatusText
    previous_status: StatusText | None
    """`null` where the order was created."""
    update_id: Identifier
    """The idempotency key of the update that made it."""
    source: SourceView
    occurred_at: TimeText | None
    """When it happened, by the clock of who reported it."""
    received_at: TimeText
    """When ingest took the update."""
    recorded_at: TimeText
    """When it was decided."""
    metadata: Metadata
    """Of this update alone."""


@with_config(DESCRIBED)
class History(TypedDict):
    """The changes of an order, oldest first."""

    order_id: Identifier
    items: list[HistoryItem]
    next_cursor: NotRequired[str]
    """The `cursor` of the next page; not there on the last one."""


@with_config(DESCRIBED)
class OrderUpdate(UpdateOutcome):
    """What became of one of the updates of an order."""

    requested_status: str
    """What was asked for; empty: to create the order."""
    source: SourceView
    """Who asked."""


@with_config(DESCRIBED)
class OrderUpdates(TypedDict):
    """The outcomes of an order's updates, newest first."""

    order_id: Identifier
    items: list[OrderUpdate]
    more: bool
    """Whether there are older ones."""


@with_config(DESCRIBED)
class EventPage(TypedDict):
    """A page of the log."""

    events: list[CloudEvent]
    cursor: CursorText
    """Behind this page: where the next one starts."""
    has_more: bool
    """Whether there may be more now."""
