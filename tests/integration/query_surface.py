"""What query can be asked, as the service itself describes it, and requests with any bytes in them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from query_stack import QueryClient

from answers import Answer
from raw_http import exchange


@dataclass(frozen=True, slots=True)
class Route:
    """One route that reads, with the names of its parameters."""

    path: str
    in_path: tuple[str, ...]
    in_query: tuple[str, ...]

    def url(self, **values: str) -> str:
        """Its path with these values, encoded already, and what is not given plain."""
        return self.path.format_map({name: values.get(name, "o-1") for name in self.in_path})


async def routes_of(query: QueryClient) -> list[Route]:
    """Every route under `/v1`."""
    paths = (await query.get("/openapi.json")).json["paths"]
    reads = [path for path in paths if path.startswith("/v1/") and "get" in paths[path]]
    return [_route(path, paths[path]["get"]) for path in reads]


def _route(path: str, operation: Mapping[str, Any]) -> Route:
    def names(place: str) -> tuple[str, ...]:
        return tuple(p["name"] for p in operation.get("parameters", ()) if p["in"] == place)

    return Route(path, names("path"), names("query"))


async def raw_get(query: QueryClient, target: bytes, headers: Mapping[str, bytes]) -> Answer:
    """`GET target` with exactly these bytes: what no well-behaved client would send."""
    lines = [f"{name}: ".encode() + value for name, value in headers.items()]
    head = [b"GET " + target + b" HTTP/1.1", b"Host: x", b"Connection: close", *lines]
    return await exchange(query.url, b"\r\n".join([*head, b"", b""]))
