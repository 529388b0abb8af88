"""Addresses that requests of ours may go to, when callers name them. Pure.

Only addresses of the public Internet: a name or an address of a caller must not lead to this machine, its
network or the metadata service of a cloud. Networks that an operator names are exceptions.
"""

import re
from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL_CHARACTERS = 2048

_TRANSLATED = ip_network("64:ff9b::/96")
"""NAT64 (RFC 6052): the last four bytes are an address of IPv4."""

_VISIBLE = re.compile(r"[\x21-\x7e]+")


class BadReceiver(ValueError):
    """Not an address that a caller may name. The message says which rule it breaks."""


def parse_networks(text: str) -> tuple[Network, ...]:
    """The networks of a setting: addresses, or networks like 10.1.0.0/16, with commas between.

    Raises:
        ValueError: one of them is neither.
    """
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def checked_networks(text: str) -> str:
    """The setting, if `parse_networks` can read it.

    Raises:
        ValueError: it cannot; the message says how to write it.
    """
    try:
        parse_networks(text)
    except ValueError:
        raise ValueError("write addresses or networks, like 10.1.0.0/16, with commas between") from None
    return text


def is_named(address: Address, allowed: Sequence[Network]) -> bool:
    """True if one of the networks contains it, or the address of IPv4 that it stands for."""
    inner = _inner(address)
    return any(one in network for network in allowed for one in (address, inner))


def is_permitted(address: Address, allowed: Sequence[Network]) -> bool:
    """True if requests may go there: it is public, or `allowed` names it."""
    return is_named(address, allowed) or _is_public(_inner(address))


def _is_public(address: Address) -> bool:
    # `is_global` is false for private, loopback, link-local, shared (CGNAT), documentation and reserved ones.
    site_local = isinstance(address, IPv6Address) and address.is_site_local
    return address.is_global and not address.is_multicast and not address.is_reserved and not site_local


def _inner(address: Address) -> Address:
    """The address of IPv4 that one of IPv6 stands for; else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def checked_url(url: str, allowed: Sequence[Network]) -> str:
    """A URL of a receiver as far as it can be checked without asking the name service.

    Raises:
        BadReceiver: it is none that requests could go to.
    """
    if len(url) > MAX_URL_CHARACTERS or not _VISIBLE.fullmatch(url):
        raise BadReceiver(f"must have 1 to {MAX_URL_CHARACTERS} visible ASCII characters")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise BadReceiver("must be a URL") from None
    if parts.scheme not in ("https", "http") or not host or "\\" in url:
        raise BadReceiver("must begin with https:// and a host")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise BadReceiver("must not hold a user, a password or a fragment")
    _check_host(host, parts.scheme, allowed)
    return url


def _check_host(host: str, scheme: str, allowed: Sequence[Network]) -> None:
    try:
        address = ip_address(host)
    except ValueError:
        # The name is resolved at each new connection, and checked then.
        if scheme == "http" and not allowed:
            raise BadReceiver("must begin with https://") from None
        return
    if not is_permitted(address, allowed):
        raise BadReceiver("must not be a private, loopback or link-local address")
    if scheme == "http" and not is_named(address, allowed):
        raise BadReceiver("must begin with https://")
