"""While the notifier starts, nobody is told that a good cursor is one of another log."""

import asyncio

import orjson
import pytest
from stream_world import StreamWorld, bearer, stream_world
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tracking_notifier.stream.stream_messages import OVERLOADED, SUBPROTOCOL
from tracking_shared.contracts.cursors import NO_EPOCH, Position, encode_cursor


def starting(made: StreamWorld) -> str:
    """Has the hub not started yet: it starts just after a cursor was read without the key of the log. Returns
    a good cursor.
    """
    hub = made.world.hub
    good, seqs = encode_cursor(hub.position), hub.seqs
    hub.seqs = []

    def decode(_: str) -> Position:
        asyncio.get_running_loop().call_soon(setattr, hub, "seqs", seqs)
        return Position(NO_EPOCH, (0,))

    made.cursors.decode = decode
    return good


async def test_a_websocket_is_closed_to_come_again() -> None:
    async with stream_world() as made:
        cursor = starting(made)
        headers = {"Authorization": f"Bearer {bearer()}"}
        url = made.url.replace("http", "ws", 1)
        async with connect(url, additional_headers=headers, subprotocols=[SUBPROTOCOL]) as client:
            await client.send(orjson.dumps({"type": "subscribe", "after": cursor}), text=True)
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(client.recv(), 20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == OVERLOADED


async def test_an_event_stream_is_refused_until_then() -> None:
    async with stream_world() as made:
        cursor = starting(made)
        async with asyncio.timeout(20), made.streaming(f"?after={cursor}", status=503) as refused:
            assert refused.response.headers["Content-Type"] == "application/problem+json"
