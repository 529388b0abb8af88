"""Format versions of stored documents and queued messages, and how older ones are read. Pure.

There is one `Format` for each kind: a collection, or a kind of message. A document carries its version in the
field `format`, a message in the header `format`; without one it is of version 1.

To change a format: docs/decisions/0024-formats-of-what-is-written.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from tracking_shared.errors import TrackingError

FORMAT = "format"
"""The name of the field, and of the header."""

FIRST = 1

Upcast = Callable[[dict[str, Any]], dict[str, Any]]
"""Makes a document of one version one of the next."""


class InvalidFormat(TrackingError):
    """A format version that is no positive number."""


class NewerFormat(TrackingError):
    """A document or a message of a version that this release does not read: a later one has written it."""


@dataclass(frozen=True, slots=True)
class Format:
    """The versions of one kind."""

    kind: str
    written: int = FIRST
    """The version that this release writes: one that the release before reads."""
    upcasts: tuple[Upcast, ...] = ()
    """From version 1 to 2, from 2 to 3, and so on."""

    @property
    def newest(self) -> int:
        """The newest version that this release reads."""
        return FIRST + len(self.upcasts)


def _unchanged(document: dict[str, Any]) -> dict[str, Any]:
    return document


COMMANDS = Format("commands")
REPLIES = Format("replies")
EVENTS = Format("events")
"""Messages of them, CloudEvents. The documents of the log are `ORDER_EVENTS`."""

ORDERS = Format("orders")
ORDER_EVENTS = Format("order_events")
UPDATES = Format("updates")
HELD = Format("held")
"""Also says the format of the command in it, as `PARKED` does."""
PARKED = Format("parked")
PARTITIONS = Format("partitions", upcasts=(_unchanged,))
"""Version 2 has the same fields. Only a change of the number of partitions writes it: then a release that
takes the first generation of partitions for all of them reads none."""

DOCUMENTS: Mapping[str, Format] = {
    one.kind: one for one in (ORDERS, ORDER_EVENTS, UPDATES, HELD, PARKED, PARTITIONS)
}
"""By collection. The documents of all others are of version 1."""


def checked_version(form: Format, version: object) -> int:
    """The version of a message or document that is of this kind.

    Raises:
        InvalidFormat: it is no version.
        NewerFormat: this release does not read it.
    """
    if type(version) is not int or version < FIRST:
        raise InvalidFormat(f"{form.kind}: the format is no positive number")
    if version > form.newest:
        raise NewerFormat(f"{form.kind} of format {version}, this release reads up to {form.newest}")
    return version


Document = TypeVar("Document", bound=Mapping[str, Any])


def upcast(form: Format, document: Document) -> Document:
    """A document that was read, in the newest format and without its version.

    Raises:
        InvalidFormat, NewerFormat: as `checked_version`.
    """
    if FORMAT not in document and not form.upcasts:
        return document
    current = dict(document)
    return cast(Document, _upcast_from(form, checked_version(form, current.pop(FORMAT, FIRST)), current))


def _upcast_from(form: Format, version: int, item: dict[str, Any]) -> dict[str, Any]:
    for step in form.upcasts[version - FIRST :]:
        item = step(item)
    return item


def upcast_all(form: Format, documents: list[Document]) -> list[Document]:
    """`upcast` of each."""
    return [upcast(form, document) for document in documents]


def stamped(form: Format, document: Document) -> Document:
    """A document with its version, to be written. Version 1 is not written: that is what releases before
    there were versions wrote, and their consistency check compares whole documents.
    """
    return document if form.written == FIRST else cast(Document, {**document, FORMAT: form.written})


def stamped_all(form: Format, documents: list[Document]) -> list[Document]:
    """`stamped` of each."""
    return documents if form.written == FIRST else [stamped(form, document) for document in documents]


def message_headers(form: Format, headers: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The headers of a message of this kind, to be sent."""
    return {**(headers or {}), FORMAT: form.written}


NO_HEADERS: Mapping[str, Any] = {}


def message_version(form: Format, headers: Mapping[str, Any]) -> int:
    """The version of a message of this kind, by its headers.

    Raises:
        InvalidFormat, NewerFormat: as `checked_version`.
    """
    return checked_version(form, headers.get(FORMAT, FIRST))


def upcast_items(form: Format, items: list[Any], version: int) -> list[Any]:
    """The items of a message of this version, in the newest format."""
    return items if version == form.newest else [_upcast_from(form, version, item) for item in items]


def is_newer(form: Format, headers: Mapping[str, Any]) -> bool:
    """True if a later release has written the message, in a version that this one does not read."""
    version = headers.get(FORMAT, FIRST)
    return type(version) is int and version > form.newest
