"""Settings that every service has, read from the environment once, in the composition root."""

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tracking_shared.errors import SettingsError
from tracking_shared.policy.claims import BadClaimSetting, ClaimNames, claim_names
from tracking_shared.policy.limits import Shares
from tracking_shared.policy.origins import BadOrigin, parse_origins

MIN_SECRET_BYTES = 32
"""HS256 needs a key at least as long as its hash (RFC 7518, section 3.2)."""

DEFAULT_PARTITIONS = 4


def checked_address(url: str, schemes: Sequence[str]) -> str:
    """The address, which callers or browsers use; it may be empty.

    Raises:
        ValueError: it has another scheme or no host, or could end what it becomes a part of: a header.
    """
    parts = urlsplit(url)
    strange = any(character.isspace() or character in ";," for character in url)
    if url and (parts.scheme not in schemes or not parts.hostname or strange):
        raise ValueError(f"write an address that begins with {' or '.join(schemes)}://")
    return url


class Settings(BaseSettings):
    """The settings of every service, read from variables with the names of the fields in capitals."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    amqp_url: Annotated[str, Field(min_length=1, repr=False)]
    mongodb_url: Annotated[str, Field(min_length=1, repr=False)]
    mongodb_database: str = "tracking"
    partitions: Annotated[int, Field(ge=1, le=1024)] = DEFAULT_PARTITIONS

    jwt_secret: Annotated[str, Field(repr=False)] = ""
    jwt_secret_previous: Annotated[str, Field(repr=False)] = ""
    jwks_url: Annotated[str, Field(repr=False)] = ""
    jwks_file: Path | None = None
    jwks_refresh_seconds: Annotated[float, Field(ge=5, le=86_400)] = 300.0
    jwt_issuer: str = ""
    jwt_audience: str = ""
    jwt_leeway_seconds: Annotated[float, Field(ge=0, le=60)] = 5.0

    claim_scope: str = ""
    """Names of claims, or paths into them with `/` between: see `tracking_shared.policy.claims`."""
    claim_merchants: str = ""
    claim_orders: str = ""
    claim_source_type: str = ""
    role_scopes: str = ""
    """A JSON object from roles to scopes."""

    workflow_file: Path | None = None

    allowed_origins: str = ""
    """Web pages that may call from a browser, comma-separated; none if empty."""
    hsts_seconds: Annotated[int, Field(ge=0)] = 0
    rate_limit_per_second: Annotated[float, Field(ge=0, le=1_000_000)] = 2_500.0
    """Requests of one principal to one replica; each operation of a batch counts. 0: not limited."""
    rate_limit_burst: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """At once, after a rest: ten of the largest batches."""
    http_max_connections: Annotated[int, Field(ge=1)] = 10_000
    """Of one replica. An idle one costs about 6 KB, and a file descriptor."""
    http_max_requests: Annotated[int, Field(ge=1)] = 2_000
    """In hand at once in one replica, those that wait for something included."""
    principal_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The part of a bound on what is in progress in one replica that one principal may use; 1: all of it."""
    merchant_share: Annotated[float, Field(gt=0, le=1)] = 0.75
    """The same for all principals together whose tokens name one merchant alone."""
    http_request_seconds: Annotated[float, Field(ge=0.1, le=300)] = 10.0
    """The time in which a request must arrive, its body included: 1 MiB in it is 0.8 Mbit/s."""

    host: str = "127.0.0.1"
    log_level: str = "INFO"
    replica_ordinal: Annotated[int, Field(ge=0)] = 0
    replica_count: Annotated[int, Field(ge=1, le=1024)] = 1

    @property
    def shares(self) -> Shares:
        """The parts that a principal and a merchant may have."""
        return Shares(self.principal_share, self.merchant_share)


S = TypeVar("S", bound=Settings)


def load_settings(kind: type[S]) -> S:
    """Reads and checks the environment.

    Raises:
        SettingsError: a variable is missing or out of bounds; the message names the variable and
            never its value.
    """
    try:
        settings = kind()
    except ValidationError as error:
        faults = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors() if e["loc"])
        raise SettingsError(faults) from None
    check_token_settings(settings)
    claim_names_of(settings)
    check_origins(settings)
    return settings


def claim_names_of(settings: Settings) -> ClaimNames:
    """The names of the claims of tokens.

    Raises:
        SettingsError: one of the settings is no name of a claim, or not a map from roles to scopes.
    """
    try:
        return claim_names(
            scope=settings.claim_scope,
            merchants=settings.claim_merchants,
            orders=settings.claim_orders,
            source_type=settings.claim_source_type,
            role_scopes=settings.role_scopes,
        )
    except BadClaimSetting as error:
        raise SettingsError(str(error)) from None


def check_origins(settings: Settings) -> None:
    """Refuses a list of origins that no browser's page could match.

    Raises:
        SettingsError: one of them is no origin.
    """
    try:
        parse_origins(settings.allowed_origins)
    except BadOrigin as error:
        raise SettingsError(f"ALLOWED_ORIGINS: {error}") from None


def check_token_settings(settings: Settings) -> None:
    """Refuses a configuration under which tokens could be forged, or none could be verified.

    Raises:
        SettingsError: no key to verify tokens with, a secret that is too short, keys that would come over an
            open network, or two variables that exclude each other.
    """
    secrets = {"JWT_SECRET": settings.jwt_secret, "JWT_SECRET_PREVIOUS": settings.jwt_secret_previous}
    for name, secret in secrets.items():
        if 0 < len(secret.encode()) < MIN_SECRET_BYTES:
            raise SettingsError(f"{name}: has {len(secret.encode())} bytes, needs {MIN_SECRET_BYTES} or more")
    if settings.jwt_secret_previous and not settings.jwt_secret:
        raise SettingsError("JWT_SECRET_PREVIOUS: goes with JWT_SECRET, which is not set")
    if settings.jwks_url and settings.jwks_file is not None:
        raise SettingsError("JWKS_FILE: set it or JWKS_URL, not both")
    if not settings.jwt_secret and not settings.jwks_url and settings.jwks_file is None:
        raise SettingsError("JWT_SECRET: set it, or JWKS_URL or JWKS_FILE; else tokens cannot be verified")
    if settings.jwks_url:
        _check_jwks_url(settings.jwks_url)


def _check_jwks_url(url: str) -> None:
    # Whoever can change the keys on their way can make every token.
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        raise SettingsError("JWKS_URL: is not a URL") from None
    if not host or parts.scheme not in ("https", "http"):
        raise SettingsError("JWKS_URL: must be an https:// URL")
    if parts.username is not None or parts.password is not None:
        raise SettingsError("JWKS_URL: must not hold a user or password")
    if parts.scheme == "http" and not _is_loopback(host):
        raise SettingsError("JWKS_URL: must be https://, except for an address of this machine")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
