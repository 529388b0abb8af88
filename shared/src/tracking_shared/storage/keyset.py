"""Keyset pagination: orders of documents by a key, and reads of any size, page by page.

Each page is a query of its own that begins behind the last key. A single cursor has one time budget for all
of its batches: the driver sends what is left of its time-out as `maxTimeMS` with the query and nothing with
the `getMore` commands, and the server charges them all to that. So a read that goes on with one cursor fails
as soon as there is enough data, however fast each batch is.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from tracking_shared.contracts.formats import DOCUMENTS, upcast_all

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession
    from pymongo.asynchronous.collection import AsyncCollection

Conditions = dict[str, Any]
"""As the filter of a database query."""


@dataclass(frozen=True, slots=True)
class KeyOrder:
    """The order in which documents are read: by one field or two, which identify a document together."""

    fields: Sequence[str]
    direction: int = 1
    """1: ascending; -1: descending."""

    @property
    def sort(self) -> list[tuple[str, int]]:
        """As the sort of a query."""
        return [(field, self.direction) for field in self.fields]

    def behind(self, last: Mapping[str, Any]) -> Conditions:
        """The condition that a document follows `last`."""
        operator = "$gt" if self.direction > 0 else "$lt"
        *first, tie = self.fields
        if not first:
            return {tie: {operator: last[tie]}}
        (field,) = first
        return {
            field: {f"{operator}e": last[field]},  # implied by what follows, but this an index can serve
            "$or": [{field: {operator: last[field]}}, {tie: {operator: last[tie]}}],
        }


def both(conditions: Conditions, others: Conditions) -> Conditions:
    """Conditions under which both hold. The bounds of `others` must be the narrower ones."""
    # In one level, not under `$and`: see `tracking_shared.storage.embedded_database`.
    merged = dict(conditions)
    for field, condition in others.items():
        known = merged.get(field)
        merged[field] = known | condition if isinstance(known, dict) else condition
    return merged


PAGE_DOCUMENTS = 10_000
"""Documents of one query, and so of one time budget: 8 s of the server for them, which take it a tenth of a
second from memory. Where the database sorts all that follows for each page, smaller ones cost more."""

Document = TypeVar("Document", bound=Mapping[str, Any])


async def read_pages(
    collection: "AsyncCollection[Document]",
    conditions: Conditions,
    order: KeyOrder,
    *,
    batch: int,
    page: int = PAGE_DOCUMENTS,
    fields: Mapping[str, int] | None = None,
    session: "AsyncClientSession | None" = None,
) -> AsyncGenerator[list[Document]]:
    """All documents that meet `conditions`, in `order`, in lists of at most `batch`; of them all or only
    `fields`, which must include those of the order.

    Nothing is read between two lists. What is written meanwhile is seen where it lies ahead: a document whose
    key changes may come twice or not at all. Errors of the driver are the caller's.
    """
    wanted = conditions
    form = None if fields else DOCUMENTS.get(collection.name)
    while True:
        found, last = 0, None
        async with collection.find(
            wanted, fields, sort=order.sort, limit=page, batch_size=min(batch, page), session=session
        ) as cursor:
            while cursor.alive and (documents := await cursor.to_list(batch)):
                found += len(documents)
                last = documents[-1]
                yield documents if form is None else upcast_all(form, documents)
        if last is None or found < page:
            return
        wanted = both(conditions, order.behind(last))
