"""Settings of ingest."""

from typing import Annotated

from pydantic import Field, field_validator

from tracking_shared.settings import Settings, checked_address


class IngestSettings(Settings):
    """The common settings and those of ingest."""

    ingest_port: Annotated[int, Field(ge=1, le=65535)] = 8001
    public_query_url: str = ""
    """The beginning of `Location`, where callers reach query elsewhere. Empty: ingest answers itself."""

    @field_validator("public_query_url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        return checked_address(url, ("http", "https")).rstrip("/")
