"""The audit trail: the actor of a command, the record of a new token, and the list of all entries."""

import getpass
import os
import re
import sys
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import jwt
import orjson

from tracking.devstack.tokens import InvalidClaims, claim_names_in, parse_ttl
from tracking.errors import CommandError
from tracking.terminal import json_line, printable
from tracking.upkeep.record_reader import read_partitions, server_errors
from tracking_shared.contracts.documents import AuditDocument
from tracking_shared.contracts.timestamps import format_time, now, parse_time, to_milliseconds
from tracking_shared.storage.audit_trail import (
    KEPT_DAYS,
    MAX_ACTOR_CHARACTERS,
    MAX_KEPT_DAYS,
    Act,
    Actor,
    AuditTrail,
    audit_view,
)
from tracking_shared.storage.database import Database, driver_errors, open_database
from tracking_shared.storage.keyset import PAGE_DOCUMENTS, KeyOrder, read_pages

_WITHOUT_SECONDS = re.compile(r"(.{10}[Tt ][0-9]{2}:[0-9]{2})([Zz+-].*)")


def parse_instant(text: str) -> datetime | None:
    """Parses an instant in RFC 3339, with or without seconds, into UTC. None: the text is not one."""
    try:
        return to_milliseconds(parse_time(_WITHOUT_SECONDS.sub(r"\1:00\2", text)))
    except (ValueError, OverflowError):
        return None


BATCH_ENTRIES = 500
"""Entries per database batch."""

_BY_TIME = KeyOrder(("at", "_id"))


class NotRecorded(CommandError):
    """The audit trail cannot be written or read. The action was not performed."""


def actor_of(name: str) -> Actor:
    """The actor: `name`, or the user of the operating system if it is "".

    Raises:
        InvalidClaims: the name is invalid, or the user has none.
    """
    try:
        sub = name or getpass.getuser()
    except (OSError, KeyError):
        raise InvalidClaims("--as: this user has no name; say who you are") from None
    if not sub.isprintable() or len(sub) > MAX_ACTOR_CHARACTERS:
        raise InvalidClaims(f"--as: write at most {MAX_ACTOR_CHARACTERS} printable characters")
    return Actor(sub, "command-line")


def audit_trail_of(database: Database) -> AuditTrail:
    """The audit trail of an installation, with the retention of `AUDIT_DAYS`.

    Raises:
        InvalidClaims: `AUDIT_DAYS` is not a valid number of days.
    """
    return AuditTrail(database, audit_days())


def audit_days() -> int:
    """The retention of the audit trail: `AUDIT_DAYS`.

    Raises:
        InvalidClaims: it is not a valid number of days.
    """
    text = os.environ.get("AUDIT_DAYS") or str(KEPT_DAYS)
    if not (text.isdecimal() and text.isascii() and 1 <= int(text) <= MAX_KEPT_DAYS):
        raise InvalidClaims(f"AUDIT_DAYS: write a number of days from 1 to {MAX_KEPT_DAYS}")
    return int(text)


async def record_token(mongodb_url: str, name: str, actor: Actor, token: str) -> None:
    """Records the creation of a token: its subject, scope and id, but not the token.

    Raises:
        NotRecorded: the token must not be handed out.
        NoInstallation: the database holds no installation.
    """
    claims = jwt.decode(token, options={"verify_signature": False})
    scope = next((claims[name] for name in claim_names_in(os.environ).scope if name in claims), None)
    details = {"jti": claims.get("jti"), "scope": scope}
    with server_errors(NotRecorded, "no token: it cannot be recorded, "):
        async with open_database(mongodb_url, name) as database:
            await read_partitions(database)
            await audit_trail_of(database).record(actor, Act("token.issued", claims["sub"], details))


async def audit_lines(
    mongodb_url: str, name: str, since: datetime | None, *, as_json: bool, page: int = PAGE_DOCUMENTS
) -> AsyncIterator[str]:
    """The entries since a time, the oldest first, one line each.

    Raises:
        NotRecorded: the database does not answer.
        NoInstallation: it holds no installation.
    """
    conditions = {} if since is None else {"at": {"$gte": since}}
    with server_errors(NotRecorded):
        async with open_database(mongodb_url, name) as database:
            await read_partitions(database)
            with driver_errors():
                async for entries in read_pages(
                    database.audit, conditions, _BY_TIME, batch=BATCH_ENTRIES, page=page
                ):
                    for entry in entries:
                        view, encoding = audit_view(entry), sys.stdout.encoding
                        yield json_line(view, encoding) if as_json else describe(entry)


def describe(entry: AuditDocument) -> str:
    """An entry in one line."""
    details = " ".join(f"{name}={_word(value)}" for name, value in entry["details"].items())
    actor = entry["actor"]
    return (
        f"{format_time(entry['at'])}  {printable(actor['sub'])} ({actor['via']})  {entry['action']}"
        f"  {printable(entry['subject'])}  {details}".rstrip()
    )


def _word(value: object) -> str:
    plain = isinstance(value, str) and value.isprintable() and " " not in value
    return str(value) if plain else orjson.dumps(value).decode()


def time_since(text: str) -> datetime | None:
    """Parses `--since`: a time with an offset, or a duration before now; None for "".

    Raises:
        InvalidClaims: the text is neither.
    """
    if not text:
        return None
    time = parse_instant(text)
    if time is not None:
        return time
    try:
        return to_milliseconds(now() - timedelta(seconds=parse_ttl(text)))
    except (InvalidClaims, OverflowError):
        message = (
            f"--since {text}: write a time with an offset, like 2026-01-31T08:15:00Z, or 90s, 30m, 1h, 7d"
        )
        raise InvalidClaims(message) from None
