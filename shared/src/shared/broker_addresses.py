"""The addresses that an `AMQP_URL` leads to: several hosts in one URL, and several addresses of one name."""

import asyncio
import random
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671}

RESOLVE_TIMEOUT_SECONDS = 5
"""For the name service. One that does not answer for one host must not hide the others."""


@dataclass(frozen=True, slots=True)
class Address:
    """One address of one host."""

    url: str
    """The `AMQP_URL` with this host alone: user, virtual host, options and the name that TLS verifies."""
    ip: str
    port: int


class NotResolved(Exception):
    """The name of a host has no address, or the name service does not answer."""


def single_host_urls(url: str) -> list[str]:
    """The URL of each host, in their order: `amqp://u:p@a,b:1/v` is `amqp://u:p@a/v` and `amqp://u:p@b:1/v`."""
    scheme, separator, rest = url.partition("://")
    end = min((place for sign in "/?#" if (place := rest.find(sign)) >= 0), default=len(rest))
    credentials, at, hosts = rest[:end].rpartition("@")
    return [f"{scheme}{separator}{credentials}{at}{host}{rest[end:]}" for host in hosts.split(",")]


Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The numeric addresses of a host. Raises `OSError`."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """Asks the name service."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in found]


async def addresses(
    url: str, lost: Address | None = None, resolve: Resolve = resolve
) -> AsyncGenerator[Address | NotResolved, None]:
    """Each address of each host, the one that was just lost at the end; or why a host has none.

    The hosts follow each other as in the URL, from any one of them on, and the addresses of a host in any
    order, so that replicas spread over the nodes of a cluster. A name is asked for when its turn comes.
    """
    urls = single_host_urls(url)
    first = random.randrange(len(urls))
    last: list[Address] = []
    for host_url in urls[first:] + urls[:first]:
        try:
            found = await _addresses_of(host_url, resolve)
        except NotResolved as error:
            yield error
            continue
        for address in found:
            if lost is not None and (address.ip, address.port) == (lost.ip, lost.port):
                last.append(address)
            else:
                yield address
    for address in last:
        yield address


async def _addresses_of(url: str, resolve: Resolve) -> list[Address]:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_SECONDS):
            ips = list(dict.fromkeys(await resolve(host, port)))
    except (OSError, TimeoutError) as error:
        raise NotResolved(f"{host}: {type(error).__name__}, the name has no address") from error
    random.shuffle(ips)
    return [Address(url, ip, port) for ip in ips]
