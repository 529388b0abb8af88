"""Settings of query."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from tracking_shared.errors import SettingsError
from tracking_shared.policy.receivers import checked_networks
from tracking_shared.settings import MIN_SECRET_BYTES, Settings, checked_address
from tracking_shared.storage.audit_trail import KEPT_DAYS, MAX_KEPT_DAYS


class QuerySettings(Settings):
    """The common settings and those of query."""

    query_port: Annotated[int, Field(ge=1, le=65535)] = 8002
    cursor_secret: Annotated[str, Field(repr=False)] = ""
    """Seals the cursors of lists. All replicas must have the same."""

    query_max_exports: Annotated[int, Field(ge=1)] = 8
    """At once in one replica, like the two below. Each holds a session of the database and 500 orders."""
    query_max_reports: Annotated[int, Field(ge=1)] = 4
    query_max_waits: Annotated[int, Field(ge=1)] = 1_000
    """Requests that wait for the log to go on."""

    archive_dir: Path | None = None
    """The folder of the archive, to answer for archived orders."""

    audit_days: Annotated[int, Field(ge=1, le=MAX_KEPT_DAYS)] = KEPT_DAYS

    webhook_allow_networks: str = ""
    """As in webhooks: addresses outside of the Internet that may be registered."""

    public_ingest_url: str = ""
    public_stream_url: str = ""
    console_dir: Path | None = None
    console_demo_token: str = ""

    oidc_client_id: str = ""
    oidc_issuer: str = ""
    """The provider with which people sign in to the console; empty: they paste a token."""
    oidc_scope: str = "openid"
    oidc_resource: str = ""
    oidc_audience: str = ""
    oidc_origins: str = ""
    """Origins of endpoints that are not at the issuer's own."""

    @property
    def sealing_secret(self) -> str:
        """`CURSOR_SECRET`, else `JWT_SECRET`.

        Raises:
            SettingsError: there is neither, or it is too short.
        """
        secret = self.cursor_secret or self.jwt_secret
        if len(secret.encode()) < MIN_SECRET_BYTES:
            raise SettingsError(
                f"CURSOR_SECRET: set it where there is no JWT_SECRET; {MIN_SECRET_BYTES} bytes or more"
            )
        return secret

    @field_validator("public_ingest_url", "public_stream_url")
    @classmethod
    def _is_address(cls, url: str, info: ValidationInfo) -> str:
        schemes = ("http", "https") if info.field_name == "public_ingest_url" else ("ws", "wss")
        return checked_address(url, schemes)

    @field_validator("oidc_issuer")
    @classmethod
    def _is_issuer(cls, url: str, info: ValidationInfo) -> str:
        checked_provider(url)
        if "?" in url or "#" in url:
            raise ValueError("an issuer has no query and no fragment")
        if url and not info.data.get("oidc_client_id"):
            raise ValueError("set OIDC_CLIENT_ID, too")
        if url and not info.data.get("jwks_url") and info.data.get("jwks_file") is None:
            raise ValueError("set JWKS_URL or JWKS_FILE, too; else its tokens cannot be verified")
        return url

    @field_validator("oidc_origins")
    @classmethod
    def _are_origins(cls, text: str) -> str:
        origins = [part.strip() for part in text.split(",") if part.strip()]
        for origin in origins:
            checked_provider(origin)
            parts = urlsplit(origin)
            if origin != f"{parts.scheme}://{parts.netloc}":
                raise ValueError("write origins, such as https://login.example.com, separated by commas")
        return ",".join(origins)

    @field_validator("oidc_scope")
    @classmethod
    def _asks_for_identity(cls, scope: str) -> str:
        if "openid" not in scope.split():
            raise ValueError("openid must be one of the scopes")
        return scope

    @field_validator("webhook_allow_networks")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        return checked_networks(text)

    @field_validator("console_dir")
    @classmethod
    def _has_stream(cls, folder: Path | None, info: ValidationInfo) -> Path | None:
        if folder is not None and not info.data.get("public_stream_url"):
            raise ValueError("a console needs PUBLIC_STREAM_URL")
        return folder

    @field_validator("console_demo_token")
    @classmethod
    def _stays_on_this_machine(cls, token: str, info: ValidationInfo) -> str:
        if token and not _is_loopback(info.data.get("host", "")):
            raise ValueError("whoever loads the console gets it; only with HOST on the loopback interface")
        return token


_HOST_AND_PORT = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?")


def checked_provider(url: str) -> None:
    """Checks an address of a provider; it may be empty.

    Raises:
        ValueError: it is no address, holds a user, names more hosts than one, or is not https outside of this
            machine: whoever changes what a provider sends can sign in as anybody.
    """
    checked_address(url, ("https", "http"))
    parts = urlsplit(url)
    if "@" in parts.netloc or "'" in url:
        raise ValueError("must not hold a user or a quotation mark")
    if url and not _HOST_AND_PORT.fullmatch(parts.netloc):
        raise ValueError("must name one host, in ASCII: the page's policy would allow all that match a *")
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ValueError("must be https://, except for an address of this machine")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
