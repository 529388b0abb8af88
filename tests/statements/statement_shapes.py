"""What a statement asks of the database, without its values: command, collection, options, operators, sorts.

Pure but for the recorder. It stands alone: services that run as processes import it, too.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
    register,
)

Document = dict[str, Any]

SHIPPED = (
    "tracking_ingest",
    "tracking_notifier",
    "tracking_order_state",
    "tracking_query",
    "tracking_shared",
    "tracking",
)
"""Packages whose statements are reviewed; those of tests are not."""

OF_THE_DRIVER = frozenset(
    {"hello", "isMaster", "ismaster", "endSessions", "saslStart", "saslContinue", "getMore"}
)
"""Commands that the driver sends by itself."""

PLUMBING = frozenset(
    {
        "$db",
        "lsid",
        "txnNumber",
        "$clusterTime",
        "$readPreference",
        "documents",
        "updates",
        "deletes",
        "cursor",
    }
    | {"filter", "query", "sort", "pipeline", "update", "indexes", "fields", "projection", "stmtIds"}
    | {"autocommit", "startTransaction", "readConcern", "writeConcern", "maxTimeMS", "batchSize"}
)
"""Keys of a command that are no options of their own, or are told apart below."""


def shapes_of(command: Document) -> Iterator[str]:
    """The statement's parts, each as a line such as `find orders: filter _id $in`."""
    name = next(iter(command))
    held = command[name]
    place = f"{name} {held}" if isinstance(held, str) else name
    for part in sorted(set(_parts(name, command))):
        yield f"{place}: {part}"


def _parts(name: str, command: Document) -> Iterator[str]:
    yield "in a transaction" if "autocommit" in command else "outside of transactions"
    if level := command.get("readConcern", {}).get("level"):
        yield f"read concern {level}"
    for option in command.keys() - PLUMBING - {name}:
        yield f"option {option}"
    filters = [command.get("filter"), command.get("query")]
    filters += [each["q"] for each in [*command.get("updates", ()), *command.get("deletes", ())]]
    for each in filters:
        yield from _conditions("filter", each or {})
    for each in command.get("updates", ()):
        yield from _change(each["u"])
        yield from (f"option {option}" for option in each.keys() - {"q", "u"} if each[option])
    if name == "findAndModify":
        yield from _change(command["update"])
    yield from _sort(command.get("sort"), command.get("filter") or {})
    yield from _stages(command.get("pipeline", ()))
    for index in command.get("indexes", ()):
        keys = ", ".join(f"{key} {way}" for key, way in index["key"].items())
        options = ", ".join(sorted(index.keys() - {"key", "name"}))
        yield f"index {keys}{f' with {options}' if options else ''}"


def _change(change: Any) -> Iterator[str]:
    operators = [key for key in change if key.startswith("$")]
    yield from (f"update {operator}" for operator in operators)
    if not operators:
        yield "replacement"


def _conditions(where: str, condition: Document) -> Iterator[str]:
    for key, value in condition.items():
        if key in ("$and", "$or", "$nor"):
            yield f"{where} {key}"
            for each in value:
                yield from _conditions(where, each)
        elif key == "$expr":
            yield f"{where} $expr"
            yield from (f"expression {operator}" for operator in _operators(value))
        elif isinstance(value, dict) and any(name.startswith("$") for name in value):
            yield from (f"{where} {key} {' '.join([name, *_nested(name, value)])}" for name in value)
        else:
            yield f"{where} {key}"


def _nested(name: str, value: Document) -> list[str]:
    return sorted(_operators(value[name])) if name in ("$elemMatch", "$not") else []


def _operators(value: Any) -> set[str]:
    """Every key below that is an operator."""
    if isinstance(value, list | tuple):
        return {found for each in value for found in _operators(each)}
    if not isinstance(value, dict):
        return set()
    found = {key for key in value if key.startswith("$")}
    return found.union(*(_operators(each) for each in value.values()))


def _sort(sort: Any, condition: Document) -> Iterator[str]:
    if sort:
        keys = ", ".join(f"{key} {way}" for key, way in dict(sort).items())
        equal = sorted(k for k, value in condition.items() if k[0] != "$" and not isinstance(value, dict))
        yield f"sort {keys}{' where ' + ', '.join(equal) if equal else ''}"


def _stages(pipeline: Any) -> Iterator[str]:
    matched: Document = {}
    for place, stage in enumerate(pipeline):
        ((name, value),) = stage.items()
        yield f"stage {name}"
        if name == "$match":
            matched |= value
            yield from _conditions("first $match" if place == 0 else "later $match", value)
        elif name == "$sort":
            yield from _sort(value, matched)
        elif name == "$facet":
            for inner in value.values():
                yield from _stages(inner)
        elif name in ("$lookup", "$unionWith"):
            yield f"stage {name} from {value['from'] if name == '$lookup' else value['coll']}"
            yield from _stages(value.get("pipeline", ()))
        else:
            yield from (f"expression {operator}" for operator in _operators(value))


class Recorder(CommandListener):
    """Writes each shape that it has not met before as a line to a file."""

    def __init__(self, path: Path, *, all_are_shipped: bool) -> None:
        self._path = path
        self._all_are_shipped = all_are_shipped
        """Whether every statement of this process comes from the packages in `SHIPPED`."""
        self._met: set[str] = set()

    def started(self, event: CommandStartedEvent) -> None:
        """Looks at a command before it is sent."""
        if event.command_name in OF_THE_DRIVER:
            return
        new = set(shapes_of(dict(event.command))) - self._met
        if new and (self._all_are_shipped or _asked_by_shipped_code()):
            self._met |= new
            with self._path.open("a") as file:
                file.write("".join(f"{shape}\n" for shape in sorted(new)))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing."""


def record_to(path: Path, *, all_are_shipped: bool) -> None:
    """Records the statements of every client that is made from now on in this process."""
    register(Recorder(path, all_are_shipped=all_are_shipped))


def _asked_by_shipped_code() -> bool:
    """Whether the call that sends the command was made there: by the nearest frame outside of the driver."""
    frame = sys._getframe(1)
    while frame is not None:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in ("pymongo", "contextlib", "asyncio", "statement_shapes", "statements"):
            return package in SHIPPED
        frame = frame.f_back  # type: ignore[assignment]
    return False
