"""Several addresses of the broker: each has its own bound, and a lost one is the last to be tried again."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import pairwise
from urllib.parse import urlsplit

import pytest

from broker_tap import BrokerTap, tap_broker
from servers import Broker
from tracking.devstack.processes import free_port
from tracking_shared.messaging.connection import Connection, connect
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.messaging.opening import CONNECT_TIMEOUT_SECONDS, Address
from tracking_shared.messaging.reconnection import serve_connections


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
async def taps(fresh_vhost_url: str) -> AsyncIterator[list[BrokerTap]]:
    """Two addresses of one broker."""
    async with tap_broker(fresh_vhost_url) as one, tap_broker(fresh_vhost_url) as other:
        yield [one, other]


def with_ports(url: str, *ports: int) -> str:
    """`url` with these ports of this machine as its hosts."""
    place = urlsplit(url).netloc.rpartition("@")[2]
    return url.replace(place, ",".join(f"127.0.0.1:{port}" for port in ports))


async def test_a_silent_host_and_one_that_refuses_do_not_hide_the_one_that_answers(
    broker_node: Broker,
) -> None:
    good = urlsplit(broker_node.url).port or 0
    with silent_port() as silent:
        url = with_ports(broker_node.url, silent, free_port(), good)
        began_at = time.monotonic()
        # As after a loss of the good one: it is the last that is tried.
        async with connect(url, "test", lost=Address(url, "127.0.0.1", good)) as connection:
            assert connection.address.port == good
        assert CONNECT_TIMEOUT_SECONDS - 1 < time.monotonic() - began_at < CONNECT_TIMEOUT_SECONDS + 3


async def test_where_no_host_answers_each_one_is_told(broker_node: Broker) -> None:
    ports = free_port(), free_port()
    with pytest.raises(BrokerUnavailable) as away:
        async with connect(with_ports(broker_node.url, *ports), "test"):
            pass
    assert all(f"127.0.0.1:{port}" in str(away.value) for port in ports)
    assert "guest" not in str(away.value)


async def test_after_a_loss_another_address_is_taken(taps: list[BrokerTap]) -> None:
    url = with_ports(taps[0].url, *(tap.port for tap in taps))
    served: list[int] = []

    async def serve(connection: Connection) -> None:
        _, consumer = await connection.private_consumer(None, limit=1)
        connection.in_service = True
        served.append(connection.address.port)
        if len(served) == 5:
            return
        for tap in taps:
            if tap.port == served[-1]:
                await tap.cut()
        await consumer.arrival()  # the end of its channel
        raise BrokerUnavailable("lost")

    await asyncio.wait_for(serve_connections(url, "test", serve), 30)

    assert all(before != after for before, after in pairwise(served)), served
