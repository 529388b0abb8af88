"""Settings of query."""

from typing import Annotated

from pydantic import Field

from shared.settings import Settings


class QuerySettings(Settings):
    """The common settings and those of query."""

    query_port: Annotated[int, Field(ge=1, le=65535)] = 8002
