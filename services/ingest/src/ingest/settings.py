"""Settings of ingest."""

from typing import Annotated

from pydantic import Field

from shared.settings import Settings


class IngestSettings(Settings):
    """The common settings and those of ingest."""

    ingest_port: Annotated[int, Field(ge=1, le=65535)] = 8001
