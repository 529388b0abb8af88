"""Orders by a key, and the condition that a document lies behind another one (keyset pagination). Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    # In one level, not under `$and`: for that the embedded database uses no index.
    merged = dict(conditions)
    for field, condition in others.items():
        known = merged.get(field)
        merged[field] = known | condition if isinstance(known, dict) else condition
    return merged
