"""The forms of queries that the embedded database of the development stack can serve from an index. Pure.

A MongoDB server takes them as the same queries, for it merges stages and simplifies bounds; so they are sent
to both, and what the tests see on the embedded database holds on a server. What it needs:

- an aggregation whose first `$match` has the conditions that an index serves, alone: beside others, or under
  `$and`, it scans the collection (20,000 orders, merchant and status: 4 ms against 12);
- bare equalities: with an operator, the second field of an index is not used;
- `$gt` instead of `$gte` for the start of a range behind another field: else it leaves out what equals the
  bound;
- the keys of a page of the log instead of a range of keys, for which it looks through the whole log (10 of
  200,000 events: 117 ms against 3);
- a sort of its own where ids decide: the order of its index is wrong where one id is the beginning of
  another.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

Conditions = dict[str, Any]

ANY_TIME: Conditions = {"$gte": datetime(1900, 1, 1, tzinfo=UTC)}
"""A condition that every time meets, by which an index on the time serves a query, and its sort is made."""

_MILLISECOND = timedelta(milliseconds=1)
"""The resolution of stored times."""


def index_stages(conditions: Mapping[str, Any], *indexed: str) -> list[Conditions]:
    """The conditions in stages: those on the `indexed` fields, and the others. No stage is empty."""
    first = {name: conditions[name] for name in indexed if name in conditions}
    rest = {name: condition for name, condition in conditions.items() if name not in first}
    return [stage for stage in (first, rest) if stage]


def match_stages(stages: Iterable[Conditions]) -> list[dict[str, Any]]:
    """The stages as the beginning of a pipeline."""
    return [{"$match": stage} for stage in stages if stage]


def is_served_by_find(stages: Sequence[Conditions]) -> bool:
    """True where a find begins to answer sooner than an aggregation, and uses the same index."""
    return len(stages) == 1


def time_range(start: datetime | None, end: datetime | None) -> dict[str, datetime]:
    """The condition start ≤ time < end; at least one of them is there."""
    bounds = {"$gt": start and start - _MILLISECOND, "$lt": end}
    return {operator: time for operator, time in bounds.items() if time}
