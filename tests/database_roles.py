"""The roles that operators give the services in the database, against what the services ask it for."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Roles = dict[str, dict[str, list[str]]]

ROLES: Roles = json.loads((Path(__file__).parents[1] / "deploy/mongodb/roles.json").read_text())

_ACTIONS: dict[str, tuple[str, ...]] = {
    "find": ("find",),
    "aggregate": ("find",),
    "count": ("find",),
    "distinct": ("find",),
    "insert": ("insert",),
    "update": ("update",),
    "delete": ("remove",),
    "findAndModify": ("find", "update"),
    "create": ("createCollection",),
    "createIndexes": ("createIndex",),
    "dropIndexes": ("dropIndex",),
    "listIndexes": ("listIndexes",),
    "listCollections": ("listCollections",),
}
"""Command → the actions that a role must allow (MongoDB's manual, "Privilege Actions")."""

_OWN_AFFAIR = frozenset(
    {"hello", "isMaster", "ismaster", "ping", "buildInfo", "getMore", "killCursors", "endSessions"}
    | {"commitTransaction", "abortTransaction", "killSessions", "refreshSessions"}
)
"""What every user may do with its own cursors, sessions and transactions."""

_FROM_ELSEWHERE = ("$lookup", "$graphLookup", "$unionWith", "$out", "$merge")


def beyond_role(user: str, commands: Iterable[dict[str, Any]]) -> set[str]:
    """What of these commands the role of `user` does not allow."""
    return {
        f"{action} {collection or 'the database'}"
        for action, collection in needed(commands)
        if action not in ROLES[user].get(collection, ())
    }


def needed(commands: Iterable[dict[str, Any]]) -> set[tuple[str, str]]:
    """The actions that these commands are, with their collections ("" is the database)."""
    found: set[tuple[str, str]] = set()
    for command in commands:
        name = next(iter(command))
        if name in _OWN_AFFAIR:
            continue
        assert not any(stage in repr(command.get("pipeline")) for stage in _FROM_ELSEWHERE), command
        upserts = name == "update" and any(update.get("upsert") for update in command["updates"])
        collection = command[name] if isinstance(command[name], str) else ""
        found |= {(action, collection) for action in (*_ACTIONS[name], *(["insert"] if upserts else []))}
    return found
