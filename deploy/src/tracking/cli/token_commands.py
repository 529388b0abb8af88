"""The commands about tokens, `token` and `revoke`, and `audit`, which lists administrative actions."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from tracking.cli.command_options import AsOption, DataDir, database_name, run
from tracking.devstack.data_folder import (
    DEFAULT_FOLDER,
    NoStack,
    issuer_claims_of,
    secret_of,
    server_url,
)
from tracking.devstack.tokens import (
    InvalidClaims,
    SourceType,
    check_subject,
    mint_token,
    parse_ttl,
    read_signing_key,
)
from tracking.errors import CommandError
from tracking.terminal import echo, printable
from tracking.upkeep.audit import (
    actor_of,
    audit_lines,
    audit_trail_of,
    parse_instant,
    record_token,
    time_since,
)
from tracking.upkeep.record_reader import read_partitions, server_errors
from tracking_shared.auth.revocations import LOOK_SECONDS, TooManyRevocations, revoke_subject, revoke_token
from tracking_shared.contracts.timestamps import format_optional_time, format_time, now
from tracking_shared.storage.audit_trail import Act, Actor
from tracking_shared.storage.database import Database, open_database

MAX_TOKEN_ID_CHARACTERS = 256
"""Far longer than the ids of any issuer."""

CLOSED_SECONDS = LOOK_SECONDS + 1
"""The longest time until open streams of a revoked token are closed, while the database answers."""


class NotRevoked(CommandError):
    """The revocation may not have been written. The message says what to do."""


@dataclass(frozen=True, slots=True)
class TokenRevocation:
    """One token, by its `jti`."""

    token_id: str
    until: datetime | None

    async def write(self, database: Database) -> None:
        """Raises `TooManyRevocations` or `DatabaseUnavailable`: perhaps not revoked; repeat it."""
        await revoke_token(database, self.token_id, until=self.until)

    @property
    def act(self) -> Act:
        """The entry for the audit trail."""
        return Act("revocation.token", self.token_id, {"until": format_optional_time(self.until)})

    def __str__(self) -> str:
        return f"the token {self.token_id}"


@dataclass(frozen=True, slots=True)
class SubjectRevocation:
    """All tokens of a subject that were issued before a time."""

    subject: str
    issued_before: datetime
    until: datetime | None

    async def write(self, database: Database) -> None:
        """Raises `TooManyRevocations` or `DatabaseUnavailable`: perhaps not revoked; repeat it."""
        await revoke_subject(database, self.subject, issued_before=self.issued_before, until=self.until)

    @property
    def act(self) -> Act:
        """The entry for the audit trail."""
        details = {
            "issued_before": format_time(self.issued_before),
            "until": format_optional_time(self.until),
        }
        return Act("revocation.subject", self.subject, details)

    def __str__(self) -> str:
        whose = printable(self.subject)
        return f"the tokens of {whose} that were issued before {format_time(self.issued_before)}"


Revocation = TokenRevocation | SubjectRevocation


def parse_revocation(sub: str, issued_before: str, jti: str, until: str) -> Revocation:
    """Parses the options of `revoke`; "" is an option that was not given.

    Raises:
        InvalidClaims: they do not name one token or one subject, or a time is none.
    """
    if bool(sub) == bool(jti):
        raise InvalidClaims("say whose tokens with --sub, or which token with --jti")
    ends = _time("--until", until)
    if ends is not None and ends <= now():
        raise InvalidClaims("--until: that is past; what has expired need not be revoked")
    if sub:
        check_subject("--sub", sub)
        return SubjectRevocation(sub, _time("--issued-before", issued_before) or now(), ends)
    if issued_before:
        raise InvalidClaims("--issued-before goes with --sub")
    if len(jti) > MAX_TOKEN_ID_CHARACTERS:
        raise InvalidClaims(f"--jti: longer than {MAX_TOKEN_ID_CHARACTERS} characters; give the id alone")
    return TokenRevocation(jti, ends)


async def write_revocation(mongodb_url: str, name: str, revocation: Revocation, actor: Actor) -> None:
    """Writes the revocation to the database of the services, after its entry in the audit trail.

    Raises:
        NotRevoked: the database does not answer, or the list is full.
        NoInstallation: the database holds no installation.
    """
    try:
        with server_errors(NotRevoked, "perhaps not revoked, repeat it: "):
            async with open_database(mongodb_url, name) as database:
                await read_partitions(database)  # refuses a wrong database name
                await audit_trail_of(database).record(actor, revocation.act)
                await revocation.write(database)
    except TooManyRevocations as error:
        raise NotRevoked(f"{error}; change JWT_SECRET, which ends all tokens that it signed") from None


def describe_revocation(revocation: Revocation) -> str:
    """The result in two lines: the tokens, and the time until it takes effect."""
    return (
        f"revoked: {revocation}\nall services act within {CLOSED_SECONDS:g} seconds, and close open streams"
    )


def _time(option: str, text: str) -> datetime | None:
    if not text:
        return None
    time = parse_instant(text)
    if time is not None:
        return time
    raise InvalidClaims(f"{option} {text}: write a time with an offset, like 2026-01-31T08:15:00Z")


def token(
    *,
    sub: Annotated[str, typer.Option(help="The subject of the token.")],
    scope: Annotated[
        str,
        typer.Option(
            help="orders:write, orders:read, orders:correct, webhooks:manage, orders:admin; spaces between."
        ),
    ],
    merchants: Annotated[str, typer.Option(help="Merchant ids with commas between, or *.")] = "",
    source_type: Annotated[SourceType, typer.Option(help="The kind of the subject.")] = "system",
    orders: Annotated[str, typer.Option(help="Narrow to these order ids, with commas between.")] = "",
    ttl: Annotated[str, typer.Option(help="Its validity: 90s, 30m, 1h, 7d.")] = "1h",
    key: Annotated[
        Path | None, typer.Option(help="Sign with this private key (PEM) instead of the secret.")
    ] = None,
    key_id: Annotated[str, typer.Option(help="The key id (kid) in the key set of the services.")] = "",
    acting: AsOption = "",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Prints a token, signed with JWT_SECRET or else with the secret of the stack in the data folder."""
    text = mint_token(
        secret_of(data_dir) if key is None else read_signing_key(key, key_id),
        subject=sub,
        scope=scope,
        merchants=_split(merchants),
        source_type=source_type,
        orders=_split(orders) if orders else None,
        ttl_seconds=parse_ttl(ttl),
        issuer_claims=issuer_claims_of(data_dir),
    )
    _record_token(data_dir, acting, text)
    typer.echo(text)


def _record_token(data_dir: Path, acting: str, text: str) -> None:
    try:
        mongodb_url = server_url(data_dir, "MONGODB_URL")
    except NoStack:  # a token needs the secret alone, so it is made anyway
        typer.echo("tracking: not in the audit trail, no database is known here", err=True)
    else:
        run(record_token(mongodb_url, database_name(), actor_of(acting), text))


def revoke(
    *,
    sub: Annotated[str, typer.Option(help="All tokens of this subject …")] = "",
    issued_before: Annotated[
        str, typer.Option(help="… that were issued before this time (iat); else before now.")
    ] = "",
    jti: Annotated[str, typer.Option(help="The token with this id.")] = "",
    until: Annotated[
        str, typer.Option(help="Their expiry: the entry is removed then; else it is kept.")
    ] = "",
    acting: AsOption = "",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Ends tokens before they expire: one by its id, or those of a subject.

    Tokens that are made afterwards are valid. Times have an offset: 2026-01-31T08:15:00Z.

    It writes to the database of the running stack, or to the one that MONGODB_URL and MONGODB_DATABASE
    name.
    """
    revocation = parse_revocation(sub, issued_before, jti, until)
    mongodb_url = server_url(data_dir, "MONGODB_URL")
    run(write_revocation(mongodb_url, database_name(), revocation, actor_of(acting)))
    echo(describe_revocation(revocation))


def audit(
    *,
    since: Annotated[str, typer.Option(help="From this time, or this long ago: 90s, 30m, 1h, 7d.")] = "",
    json_lines: Annotated[bool, typer.Option("--json", help="Each action as one line of JSON.")] = False,
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Lists administrative actions and their actors, the oldest first.

    An action is recorded before it is performed, so failed ones are listed too.

    It reads the database of the running stack, or the one that MONGODB_URL and MONGODB_DATABASE name.
    """
    start = time_since(since)
    run(_print_audit(server_url(data_dir, "MONGODB_URL"), start, as_json=json_lines))


async def _print_audit(mongodb_url: str, since: datetime | None, *, as_json: bool) -> None:
    async for line in audit_lines(mongodb_url, database_name(), since, as_json=as_json):
        echo(line)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
