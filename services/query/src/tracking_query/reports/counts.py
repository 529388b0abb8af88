"""The reports that count documents as they are: open orders by age, refused updates. No I/O, no clock."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Literal, TypeVar

from tracking_query.reports.figures import MAX_ROWS, Buckets, TooManyRows
from tracking_shared.contracts.documents import OrderDocument, UpdateDocument
from tracking_shared.contracts.workflow import Workflow

Since = Literal["created", "updated"]
"""The start of the age of an order: its creation, or its newest change."""

Key = TypeVar("Key")

_HOUR = 3600
AGES_SECONDS = tuple(hours * _HOUR for hours in (0, 1, 4, 12, 24, 3 * 24, 7 * 24, 30 * 24))
"""The starts of the classes of age."""

Rows = Iterator[tuple[int, str, list[str | int | None]]]
"""Bucket, merchant and cells of each row."""


class OpenOrders:
    """Counts open orders by status and age."""

    columns = ("status", "age_from", "age_to", "count")

    def __init__(self, workflow: Workflow, time: datetime, since: Since) -> None:
        self._rank = {status: rank for rank, status in enumerate(workflow.transitions)}
        self._time = time
        self._since = since
        self._seen: set[str] = set()
        self._counts: Counter[tuple[str, int, str, int]] = Counter()

    def add(self, order: OrderDocument, *, by_merchant: bool) -> None:
        """Counts an open order, once: it can be read again where it was updated meanwhile.

        Raises:
            TooManyRows: the report becomes too long.
        """
        if order["_id"] in self._seen:
            return
        self._seen.add(order["_id"])
        start = order["created_at"] if self._since == "created" else order["updated_at"]
        age = max((self._time - start).total_seconds(), 0)
        status = order["status"]
        merchant = order["merchant_id"] if by_merchant else ""
        rank = self._rank.get(status, len(self._rank))
        _count(self._counts, (merchant, rank, status, bisect_right(AGES_SECONDS, age) - 1))

    def rows(self) -> Rows:
        """By merchant, then status in the order of the workflow's table, then age. Ages in seconds."""
        ends = (*AGES_SECONDS[1:], None)
        for (merchant, _, status, age), count in sorted(self._counts.items()):
            yield 0, merchant, [status, AGES_SECONDS[age], ends[age], count]


class Refusals:
    """Counts refused updates by reason and source."""

    columns = ("reason", "source_type", "source_id", "count")

    def __init__(self, *, with_sources: bool = True) -> None:
        """`with_sources`: `source_id` says who sent them; else it is empty."""
        self._with_sources = with_sources
        self._counts: Counter[tuple[int, str, str, str, str]] = Counter()

    def add(self, update: UpdateDocument, buckets: Buckets, *, by_merchant: bool) -> None:
        """Counts a refused update of the range.

        Raises:
            TooManyRows: the report becomes too long.
        """
        bucket, problem, source = buckets.index(update["recorded_at"]), update["problem"], update["source"]
        if bucket is None or problem is None:
            return
        merchant = update["merchant_id"] or "" if by_merchant else ""
        sender = source["id"] if self._with_sources else ""
        _count(self._counts, (bucket, merchant, problem["slug"], source["type"], sender))

    def rows(self) -> Rows:
        """By bucket and merchant (empty: there was no order), then the most frequent first."""
        by_frequency = sorted(self._counts.items(), key=lambda item: (*item[0][:2], -item[1], *item[0][2:]))
        for (bucket, merchant, *labels), count in by_frequency:
            yield bucket, merchant, [*labels, count]


def _count(counts: Counter[Key], key: Key) -> None:
    counts[key] += 1
    if len(counts) > MAX_ROWS:
        raise TooManyRows
