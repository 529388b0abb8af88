"""The addresses of an `AMQP_URL`: several hosts, several addresses of a name, the one that was lost."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking_shared.messaging.opening import Address, NotResolved, addresses, single_host_urls

NAMES = {"a": ["10.0.0.1", "10.0.0.2", "10.0.0.3"], "b": ["10.0.1.1", "10.0.1.1"]}


async def from_names(host: str, _: int) -> Sequence[str]:
    """A name service with `NAMES`; numeric addresses are what they are."""
    if host == "nowhere":
        raise OSError("no such name")
    return NAMES.get(host, [host])


async def found(url: str, lost: Address | None = None) -> list[Address]:
    """The addresses of `url` in their order, without those that have none."""
    return [
        address async for address in addresses(url, lost, from_names) if not isinstance(address, NotResolved)
    ]


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("amqp://u:p@a", ["amqp://u:p@a"]),
        (
            "amqp://u:p@a:1,b,c:3/v?heartbeat=5",
            [f"amqp://u:p@{h}/v?heartbeat=5" for h in ("a:1", "b", "c:3")],
        ),
        (
            "amqps://u:p%40%2C@[::1]:5671,[::2]/%2Fv",
            [f"amqps://u:p%40%2C@{h}/%2Fv" for h in ("[::1]:5671", "[::2]")],
        ),
        ("amqp://u:a,b@h1,h2/", ["amqp://u:a,b@h1/", "amqp://u:a,b@h2/"]),
        ("amqp://a,b?cafile=/x,y@z", ["amqp://a?cafile=/x,y@z", "amqp://b?cafile=/x,y@z"]),
    ],
)
def test_each_host_has_a_url_of_its_own(url: str, hosts: list[str]) -> None:
    assert single_host_urls(url) == hosts


async def test_every_address_of_a_host_comes_once_with_its_port() -> None:
    places = [(address.ip, address.port) for address in await found("amqp://a,b:7,[::1]/")]
    expected = [*((ip, 5672) for ip in NAMES["a"]), ("10.0.1.1", 7), ("::1", 5672)]
    assert sorted(places) == sorted(expected)
    assert [address.port for address in await found("amqps://b/")] == [5671]


@given(st.lists(st.sampled_from(["h1", "h2", "h3", "h4", "h5"]), min_size=1, unique=True))
async def test_hosts_follow_each_other_as_in_the_url_from_any_of_them_on(hosts: list[str]) -> None:
    came = [address.ip for address in await found(f"amqp://{','.join(hosts)}/")]
    start = hosts.index(came[0])
    assert came == hosts[start:] + hosts[:start]


async def test_replicas_spread_over_hosts_and_addresses() -> None:
    assert {(await found("amqp://a/"))[0].ip for _ in range(100)} == set(NAMES["a"])
    assert {(await found("amqp://h1,h2/"))[0].ip for _ in range(100)} == {"h1", "h2"}


@pytest.mark.parametrize("url", ["amqp://a,b/", "amqp://b,a/", "amqp://a/"])
async def test_the_one_that_was_lost_comes_last(url: str) -> None:
    lost = Address(url, "10.0.0.2", 5672)
    for _ in range(20):
        came = await found(url, lost)
        assert [address.ip for address in came].index(lost.ip) == len(came) - 1


async def test_a_name_without_an_address_hides_no_other() -> None:
    results = [address async for address in addresses("amqp://nowhere,b/", None, from_names)]
    assert sorted(type(result).__name__ for result in results) == ["Address", "NotResolved"]
