"""Reads of the HTTP services, each checked against its OpenAPI document."""

from typing import Any, Literal

import orjson
from aiohttp import ClientSession

from callers import token
from openapi_checks import check_answer


async def get(
    url: str, path: str, *, bearer: str | None = None, service: Literal["ingest", "query"] = "query"
) -> Any:
    """The document at `path`, which must be there."""
    headers = {"Authorization": f"Bearer {bearer or token()}"}
    async with ClientSession() as session, session.get(url + path, headers=headers) as response:
        body = await response.read()
        check_answer(
            service,
            "GET",
            path.partition("?")[0],
            status=response.status,
            headers=response.headers,
            body=body,
        )
    assert response.status == 200, body
    return orjson.loads(body)
