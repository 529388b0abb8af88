"""The commands about tokens, and the trail of who did what."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from tracking.audit import actor_of, audit_lines, record_token, time_since
from tracking.command_options import AsOption, DataDir, database_name, run, say
from tracking.data_folder import DEFAULT_FOLDER
from tracking.local_stack import NoStack, places_of, secret_of, server_url
from tracking.revoke import describe, parse_revocation
from tracking.revoke import revoke as write_revocation
from tracking.tokens import SourceType, mint_token, parse_ttl, read_signing_key


def token(
    *,
    sub: Annotated[str, typer.Option(help="Who it stands for.")],
    scope: Annotated[str, typer.Option(help="orders:write, orders:read, orders:admin; with spaces between.")],
    merchants: Annotated[str, typer.Option(help="Merchant ids with commas between, or *.")] = "",
    source_type: Annotated[SourceType, typer.Option(help="What it stands for.")] = "system",
    orders: Annotated[str, typer.Option(help="Narrow to these order ids, with commas between.")] = "",
    ttl: Annotated[str, typer.Option(help="How long it is valid: 90s, 30m, 1h, 7d.")] = "1h",
    key: Annotated[
        Path | None, typer.Option(help="Sign with this private key (PEM) instead of the secret.")
    ] = None,
    key_id: Annotated[str, typer.Option(help="Its name (kid) in the key set of the services.")] = "",
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
        places=places_of(data_dir),
    )
    _record_token(data_dir, acting, text)
    typer.echo(text)


def _record_token(data_dir: Path, acting: str, text: str) -> None:
    try:
        mongodb_url = server_url(data_dir, "MONGODB_URL")
    except NoStack:  # the secret alone makes tokens, here as anywhere
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
        str, typer.Option(help="When they have expired anyway: the entry goes then; else it stays.")
    ] = "",
    acting: AsOption = "",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Ends tokens before they expire: one by its id, or those of a subject.

    Tokens that are made afterwards are good. Times have an offset: 2026-01-31T08:15:00Z.

    It writes to the database of the running stack, or to what MONGODB_URL and MONGODB_DATABASE name.
    """
    revocation = parse_revocation(sub, issued_before, jti, until)
    mongodb_url = server_url(data_dir, "MONGODB_URL")
    run(write_revocation(mongodb_url, database_name(), revocation, actor_of(acting)))
    say(describe(revocation))


def audit(
    *,
    since: Annotated[str, typer.Option(help="From this time on, or how long ago: 90s, 30m, 1h, 7d.")] = "",
    json_lines: Annotated[bool, typer.Option("--json", help="Each act as one line of JSON.")] = False,
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Lists who did which administrative thing, the oldest first.

    An act is recorded before it is done; one that then failed is there, too.

    It reads the database of the running stack, or what MONGODB_URL and MONGODB_DATABASE name.
    """
    start = time_since(since)
    run(_say_audit(server_url(data_dir, "MONGODB_URL"), start, as_json=json_lines))


async def _say_audit(mongodb_url: str, since: datetime | None, *, as_json: bool) -> None:
    async for line in audit_lines(mongodb_url, database_name(), since, as_json=as_json):
        say(line)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
