"""`tracking revoke`: ends tokens before their `exp`, in the database of an installation."""

from dataclasses import dataclass
from datetime import datetime

from shared.audit_trail import Act, Actor
from shared.database import Database, DatabaseUnavailable, open_database
from shared.revocation_list import LOOK_SECONDS, TooManyRevocations, revoke_subject, revoke_token
from shared.timestamps import format_optional_time, format_time, now
from tracking.audit import trail_of
from tracking.examination import read_partitions
from tracking.instants import parse_instant
from tracking.terminal_text import printable
from tracking.tokens import InvalidClaims, check_subject

MAX_TOKEN_ID_CHARACTERS = 256
"""Far more than the ids that issuers make."""

CLOSED_SECONDS = LOOK_SECONDS + 1
"""Until the streams of a revoked token are closed, while the database answers."""


class NotRevoked(Exception):
    """Perhaps nothing was written. The message says what to do."""


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
        """As the audit trail has it."""
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
        """As the audit trail has it."""
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
    """What the options ask for; "" is an option that was not given.

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


async def revoke(mongodb_url: str, database_name: str, revocation: Revocation, actor: Actor) -> None:
    """Writes it down, where the services of the installation look; and before, who does so.

    Raises:
        NotRevoked: the database does not answer, or the list is full.
        NothingToCheck: the database holds no installation.
    """
    try:
        async with open_database(mongodb_url, database_name) as database:
            await read_partitions(database)  # else a wrong name would be written to, and nobody would look
            await trail_of(database).record(actor, revocation.act)
            await revocation.write(database)
    except TooManyRevocations as error:
        raise NotRevoked(f"{error}; change JWT_SECRET, which ends all tokens that it signed") from None
    except DatabaseUnavailable as error:
        raise NotRevoked(f"perhaps not revoked, repeat it: the database does not answer: {error}") from None


def describe(revocation: Revocation) -> str:
    """What was done, and when it shows, in two lines."""
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
