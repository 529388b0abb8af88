"""Names of receivers: resolved once for each connection, checked, and given to the client as addresses."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import ip_address

from aiohttp.abc import AbstractResolver, ResolveResult

from tracking_shared.policy.receivers import Address, Network, is_named, is_permitted
from tracking_webhooks.errors import AddressRefused

RESOLVE_SECONDS = 5.0

RESOLVER_THREADS = 64
"""A name server that does not answer holds a thread for as long as the system's resolver waits."""

Resolve = Callable[[str], Sequence[str]]
"""Gives the addresses of a name; `OSError`: it has none."""


def resolve_by_system(host: str) -> Sequence[str]:
    """The addresses that the system's resolver gives."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


class CheckedResolver(AbstractResolver):
    """Resolves for aiohttp. The client connects to what this returns and asks nobody else."""

    def __init__(self, allowed: Sequence[Network], *, only_named: bool, resolve: Resolve) -> None:
        """`only_named`: addresses outside of `allowed` are refused, public ones too."""
        self._allowed = allowed
        self._only_named = only_named
        self._resolve = resolve
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolver")
        self._open: dict[str, asyncio.Future[Sequence[str]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The permitted addresses of a name.

        Raises:
            AddressRefused: it has none, or none that requests may go to.
            OSError: it does not exist, or the name server does not answer.
        """
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                texts = await asyncio.shield(self._look_up(host))
        except TimeoutError:
            # As for a name that does not exist: no other event would do better.
            raise socket.gaierror(socket.EAI_AGAIN, "the name server does not answer") from None
        addresses = [ip_address(text) for text in texts]
        results = [_result(host, each, port) for each in addresses if self._may_use(each)]
        if not results:
            raise AddressRefused("the name resolves to no address that requests may go to")
        return results

    def _look_up(self, host: str) -> asyncio.Future[Sequence[str]]:
        """Asks for a name, once for all connections that begin meanwhile: a dead name server holds one thread
        for each name."""
        found = self._open.get(host)
        if found is None:
            loop = asyncio.get_running_loop()
            found = self._open[host] = loop.run_in_executor(self._threads, self._resolve, host)
            found.add_done_callback(partial(self._close_look_up, host))
        return found

    def _close_look_up(self, host: str, look_up: asyncio.Future[Sequence[str]]) -> None:
        del self._open[host]
        if not look_up.cancelled():
            look_up.exception()  # seen, also where everybody who waited has given up

    def check_literal(self, host: str) -> None:
        """Checks a host that is an address, which aiohttp does not ask a resolver for.

        Raises:
            AddressRefused: requests may not go there.
        """
        if not self._literal_may_be_used(host):
            raise AddressRefused("requests may not go to this address")

    def _literal_may_be_used(self, host: str) -> bool:
        try:
            return self._may_use(ip_address(host))
        except ValueError:
            return True  # a name, which is resolved and checked then

    async def close(self) -> None:
        """Lets the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _may_use(self, address: Address) -> bool:
        return is_named(address, self._allowed) if self._only_named else is_permitted(address, self._allowed)


def _result(host: str, address: Address, port: int) -> ResolveResult:
    return {
        "hostname": host,
        "host": str(address),
        "port": port,
        "family": socket.AF_INET if address.version == 4 else socket.AF_INET6,
        "proto": 0,
        "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    }
