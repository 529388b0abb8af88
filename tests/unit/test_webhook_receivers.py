"""Addresses that requests may go to."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking_shared.policy.receivers import (
    BadReceiver,
    checked_url,
    is_named,
    is_permitted,
    parse_networks,
)

PUBLIC = (
    "93.184.216.34",
    "8.8.8.8",
    "2606:2800:220:1:248:1893:25c8:1946",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
)

REFUSED = (
    *("127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("0.0.0.0", "255.255.255.255", "224.0.0.1", "239.1.2.3", "192.0.2.1"),  # noqa: S104 - nothing is bound
    *("198.18.0.1", "240.0.0.1"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "fec0::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:100.64.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::1", "::7f00:1"),
)


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_permitted(text: str) -> None:
    assert is_permitted(ip_address(text), ())


@pytest.mark.parametrize("text", REFUSED)
def test_addresses_of_networks_of_our_own_are_refused(text: str) -> None:
    assert not is_permitted(ip_address(text), ())


@given(st.ip_addresses(v=4))
def test_an_address_of_ipv4_is_judged_the_same_in_every_form(address: object) -> None:
    mapped = ip_address(f"::ffff:{address}")

    assert is_permitted(mapped, ()) == is_permitted(ip_address(str(address)), ())


def test_networks_that_are_named_are_permitted_also_in_the_other_form() -> None:
    allowed = parse_networks("10.1.0.0/16, fd00::/8,127.0.0.1")

    assert is_permitted(ip_address("10.1.2.3"), allowed)
    assert is_permitted(ip_address("::ffff:10.1.2.3"), allowed)
    assert is_named(ip_address("127.0.0.1"), allowed)
    assert not is_permitted(ip_address("10.2.0.1"), allowed)
    assert not is_named(ip_address("8.8.8.8"), allowed)


@pytest.mark.parametrize("text", ["10.0.0.0/33", "example.com", "10.0.0.1/8", "1"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_networks(text if text != "1" else "x1")


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/in?x=1",
        "https://hooks.example.com:8443/",
        "https://8.8.8.8/",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/",
    ],
)
def test_urls_that_may_be_registered(url: str) -> None:
    assert checked_url(url, ()) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "ftp://hooks.example.com/",
        "http://hooks.example.com/",
        "https:///in",
        "https://",
        "https://user:secret@hooks.example.com/",
        "https://user@hooks.example.com/",
        "https://hooks.example.com/#part",
        "https://hooks.example.com:99999/",
        "https://[::1/",
        "https://127.0.0.1/",
        "https://[::ffff:10.0.0.1]/",
        "http://8.8.8.8/",
        "https://hooks.example.com\\@127.0.0.1/",
        "https://hooks.example.com/ in",
        "https://hooks.example.com/\n",
        "https://hooks.example.com/ä",
        "https://example.com/" + "x" * 2048,
    ],
)
def test_urls_that_may_not_be_registered(url: str) -> None:
    with pytest.raises(BadReceiver):
        checked_url(url, ())


def test_http_is_for_networks_that_are_named() -> None:
    allowed = parse_networks("127.0.0.0/8")

    assert checked_url("http://127.0.0.1:9000/in", allowed)
    assert checked_url("http://receiver.internal/in", allowed)
    with pytest.raises(BadReceiver, match="https"):
        checked_url("http://8.8.8.8/in", allowed)
