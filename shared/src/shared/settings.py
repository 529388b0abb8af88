"""Settings that every service has, read from the environment once, in the composition root."""

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

MIN_SECRET_BYTES = 32
"""HS256 needs a key at least as long as its hash (RFC 7518, section 3.2)."""

DEFAULT_PARTITIONS = 4


class SettingsError(Exception):
    """The configuration misses something or is unsafe: the service says so in one line and does not start."""


class Settings(BaseSettings):
    """What every service reads from its environment. Names of variables are the field names in capitals."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    amqp_url: Annotated[str, Field(min_length=1)]
    mongodb_url: Annotated[str, Field(min_length=1)]
    mongodb_database: str = "tracking"
    partitions: Annotated[int, Field(ge=1, le=1024)] = DEFAULT_PARTITIONS

    jwt_secret: str = ""
    jwt_issuer: str = ""
    jwt_audience: str = ""

    workflow_file: Path | None = None

    host: str = "127.0.0.1"
    log_level: str = "INFO"
    replica_ordinal: Annotated[int, Field(ge=0)] = 0
    replica_count: Annotated[int, Field(ge=1, le=1024)] = 1


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
    return settings


def check_token_settings(settings: Settings) -> None:
    """Refuses a configuration under which tokens could be forged.

    Raises:
        SettingsError: no key to verify tokens with, or a secret that is too short.
    """
    secret_bytes = len(settings.jwt_secret.encode())
    if secret_bytes == 0:
        raise SettingsError("JWT_SECRET: set it; without it tokens cannot be verified")
    if secret_bytes < MIN_SECRET_BYTES:
        raise SettingsError(f"JWT_SECRET: has {secret_bytes} bytes, needs {MIN_SECRET_BYTES} or more")
