"""Collections in memory, for stores whose statements are few: each takes its time, and may be cut off before
or after it has had its effect.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pymongo.errors import BulkWriteError

from tracking_order_state.adapters.store import KEY_EXISTS

Pause = Callable[[], Awaitable[None]]

MISSING = object()


@dataclass(frozen=True, slots=True)
class Written:
    """The result of an update."""

    modified_count: int


class Found:
    """What a query finds, as a cursor: each list of it is taken once."""

    def __init__(self, pause: Pause, documents: list[dict[str, Any]]) -> None:
        self._pause = pause
        self._documents = documents

    @property
    def alive(self) -> bool:
        return bool(self._documents)

    async def to_list(self, length: int | None = None) -> list[dict[str, Any]]:
        await self._pause()
        taken, self._documents = self._documents[:length], self._documents[len(self._documents[:length]) :]
        return taken

    async def __aenter__(self) -> "Found":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        for document in await self.to_list():
            yield document


@dataclass(slots=True)
class Collection:
    """One collection."""

    pause: Pause
    documents: dict[Any, dict[str, Any]] = field(default_factory=dict)
    largest_find: int = 0
    """The most documents that one query has found."""

    async def find_one(self, conditions: Mapping[str, Any]) -> dict[str, Any] | None:
        await self.pause()
        return next(iter(self._matching(conditions)), None)

    def find(
        self,
        conditions: Mapping[str, Any],
        projection: Mapping[str, int] | None = None,
        *,
        sort: Sequence[tuple[str, int]] = (),
        limit: int = 0,
        **_: Any,
    ) -> Found:
        found = self._matching(conditions)
        for field_name, direction in reversed(sort):
            found.sort(key=lambda one: one[field_name], reverse=direction < 0)
        self.largest_find = max(self.largest_find, len(found[: limit or None]))
        return Found(self.pause, found[: limit or None])

    async def update_one(self, conditions: Mapping[str, Any], changes: Mapping[str, Any]) -> Written:
        await self.pause()
        found = [one for one in self.documents.values() if _matches(one, conditions)]
        for document in found[:1]:
            _change(document, changes)
        await self.pause()
        return Written(len(found[:1]))

    async def insert_many(self, documents: Sequence[dict[str, Any]], *, ordered: bool) -> None:
        await self.pause()
        present = [one for one in documents if one["_id"] in self.documents]
        self.documents = {one["_id"]: dict(one) for one in documents} | self.documents
        await self.pause()
        if present:
            raise BulkWriteError({"writeErrors": [{"code": KEY_EXISTS} for _ in present]})

    def _matching(self, conditions: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [dict(one) for one in self.documents.values() if _matches(one, conditions)]


class MemoryDatabase:
    """As much of a `Database` as a `RepartitionStore` uses."""

    def __init__(self, pause: Pause) -> None:
        names = ("settings", "partitions", "held", "parked", "order_homes")
        self.raw = {name: Collection(pause) for name in names}
        self.partitions, self.order_homes = self.raw["partitions"], self.raw["order_homes"]


def _matches(document: Mapping[str, Any], conditions: Mapping[str, Any]) -> bool:
    return all(_fulfils(_value(document, path), wanted) for path, wanted in conditions.items())


def _fulfils(value: Any, wanted: Any) -> bool:
    match wanted:
        case {"$not": {"$gte": least}}:
            return value is MISSING or bool(value < least)
        case {"$gt": bound}:
            return value is not MISSING and bool(value > bound)
        case {"$exists": exists}:
            return (value is not MISSING) is bool(exists)
        case _:
            return bool(value == wanted)


def _value(document: Mapping[str, Any], path: str) -> Any:
    value: Any = document
    for name in path.split("."):
        value = value.get(name, MISSING) if isinstance(value, Mapping) else MISSING
    return value


def _change(document: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for path, value in changes.get("$set", {}).items():
        *outer, name = path.split(".")
        target = document
        for one in outer:
            target[one] = dict(target[one])  # a copy that was read stays as it was
            target = target[one]
        target[name] = value
    for name, number in changes.get("$inc", {}).items():
        document[name] += number
    for name in changes.get("$unset", {}):
        del document[name]
