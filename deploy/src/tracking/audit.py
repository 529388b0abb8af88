"""The audit trail on the command line: who acts here, and what was done by whom."""

import getpass
import os
import sys
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import jwt
import orjson

from shared.audit_trail import (
    KEPT_DAYS,
    MAX_ACTOR_CHARACTERS,
    MAX_KEPT_DAYS,
    Act,
    Actor,
    AuditTrail,
    audit_view,
)
from shared.database import Database, DatabaseUnavailable, driver_errors, open_database
from shared.documents import AuditDocument
from shared.key_order import KeyOrder
from shared.key_pages import PAGE_DOCUMENTS, read_pages
from shared.timestamps import format_time, now, to_milliseconds
from tracking.examination import read_partitions
from tracking.instants import parse_instant
from tracking.json_lines import json_line
from tracking.terminal_text import printable
from tracking.tokens import InvalidClaims, claim_names_in, parse_ttl

BATCH_ENTRIES = 500
"""Read at once."""

_IN_TIME = KeyOrder(("at", "_id"))


class NotRecorded(Exception):
    """The trail could not be written or read. What it was to be written for was not done."""


def actor_of(name: str) -> Actor:
    """Who acts: `name`, or the user of the operating system if it is "".

    Raises:
        InvalidClaims: that is no name for a trail, or the user has none.
    """
    try:
        sub = name or getpass.getuser()
    except (OSError, KeyError):
        raise InvalidClaims("--as: this user has no name; say who you are") from None
    if not sub.isprintable() or len(sub) > MAX_ACTOR_CHARACTERS:
        raise InvalidClaims(f"--as: write at most {MAX_ACTOR_CHARACTERS} printable characters")
    return Actor(sub, "command-line")


def trail_of(database: Database) -> AuditTrail:
    """The trail of an installation, kept as `AUDIT_DAYS` says.

    Raises:
        InvalidClaims: that is no number of days.
    """
    text = os.environ.get("AUDIT_DAYS") or str(KEPT_DAYS)
    if not (text.isdecimal() and text.isascii() and 1 <= int(text) <= MAX_KEPT_DAYS):
        raise InvalidClaims(f"AUDIT_DAYS: write a number of days from 1 to {MAX_KEPT_DAYS}")
    return AuditTrail(database, int(text))


async def record_token(mongodb_url: str, name: str, actor: Actor, token: str) -> None:
    """Records that a token was made: whose, what for and its id; nothing that could be used as one.

    Raises:
        NotRecorded: do not hand it out.
        NothingToCheck: the database holds no installation.
    """
    claims = jwt.decode(token, options={"verify_signature": False})
    scope = next((claims[name] for name in claim_names_in(os.environ).scope if name in claims), None)
    details = {"jti": claims.get("jti"), "scope": scope}
    try:
        async with open_database(mongodb_url, name) as database:
            await read_partitions(database)
            await trail_of(database).record(actor, Act("token.issued", claims["sub"], details))
    except DatabaseUnavailable as error:
        raise NotRecorded(f"no token: it cannot be recorded, the database does not answer: {error}") from None


async def audit_lines(
    mongodb_url: str, name: str, since: datetime | None, *, as_json: bool, page: int = PAGE_DOCUMENTS
) -> AsyncIterator[str]:
    """The acts since a time, the oldest first, a line for each.

    Raises:
        NotRecorded: the database does not answer.
        NothingToCheck: it holds no installation.
    """
    wanted = {} if since is None else {"at": {"$gte": since}}
    try:
        async with open_database(mongodb_url, name) as database:
            await read_partitions(database)
            with driver_errors():
                async for entries in read_pages(
                    database.audit, wanted, _IN_TIME, batch=BATCH_ENTRIES, page=page
                ):
                    for entry in entries:
                        view, encoding = audit_view(entry), sys.stdout.encoding
                        yield json_line(view, encoding) if as_json else describe(entry)
    except DatabaseUnavailable as error:
        raise NotRecorded(f"the database does not answer: {error}") from None


def describe(entry: AuditDocument) -> str:
    """One line."""
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
    """The time that `--since` names: a time with its offset, or how long ago; None for "".

    Raises:
        InvalidClaims: it is neither.
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
