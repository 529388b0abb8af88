"""A client that breaks every rule of WebSockets and of ours, a few hundred times: the others notice nothing.

Hypothesis makes the conversations, always the same ones, and they are all held against one notifier.
"""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from notifier_stack import Stage, StartService, eventually, ids, new_order, notifier_stage, subscribed

from callers import token

CONVERSATIONS = 150
AT_ONCE = 25
PATIENCE_SECONDS = 30

HEARD_SECONDS = 1.0
"""How long a conversation lasts in which the notifier has been promised more than it gets."""

CLOSE = bytes([0x88, 0x80, 0, 0, 0, 0])

HANDSHAKE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
hostile_texts = st.sampled_from(["", "\x00", "$where", "../../etc/passwd", "a" * 70_000, "*", "𐏿", "NaN"])


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Ours, with some of their parts replaced by anything; with a good token sometimes."""
    fields: dict[str, Any] = {
        "type": draw(st.sampled_from(["subscribe", "subscribe", "refresh", "events", "live"])),
        "token": draw(st.sampled_from([token(), token(), token(exp=1), "x.y.z"]) | hostile_texts),
        "filter": draw(
            st.just({})
            | json_values
            | st.dictionaries(
                st.sampled_from(["merchant_id", "order_id", "status", "active", "$or"]),
                st.lists(hostile_texts, max_size=3) | json_values,
            )
        ),
        "after": draw(st.none() | hostile_texts | st.text(alphabet="abcdefgh012-_=", max_size=80)),
        "snapshot": draw(st.none() | st.booleans() | json_values),
        "heartbeat": draw(st.booleans() | json_values),
    }
    kept = draw(st.sets(st.sampled_from(sorted(fields))))
    return json.dumps({name: value for name, value in fields.items() if name not in kept}).encode()


plausible = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["subscribe", "subscribe", "refresh"]),
        "token": st.sampled_from([token(), token(exp=1), token(scope="orders:write")]),
    },
    optional={"filter": st.sampled_from([{}, {"active": False}, {"merchant_id": ["acme"]}])},
).map(lambda message: json.dumps(message).encode())


def honest_frame(payload: bytes) -> bytes:
    """One that a client would send."""
    length = len(payload)
    size = bytes([0x80 | length]) if length < 126 else bytes([0x80 | 127]) + struct.pack("!Q", length)
    return b"\x81" + size + bytes(4) + payload


@st.composite
def lying_frames(draw: st.DrawFn) -> bytes:
    """A frame that may lie: about its length, its mask, its kind, reserved bits, and where it ends."""
    payload = draw(messages() | st.binary(max_size=200) | json_values.map(repr).map(str.encode))
    opcode = draw(st.sampled_from([1, 1, 1, 2, 0, 8, 9, 10]) | st.integers(0, 15))
    flags = draw(st.sampled_from([0x80, 0x80, 0x80, 0x00]) | st.sampled_from([0xC0, 0xB0, 0xF0]))
    length = draw(st.just(len(payload)) | st.sampled_from([0, 1, 125, 65_536, 2**31, 2**63 - 1, 2**64 - 1]))
    masked = 0x80 if draw(st.integers(0, 9)) else 0
    header = bytes([flags | opcode])
    if length < 126:
        header += bytes([masked | length])
    elif length < 65_536:
        header += bytes([masked | 126]) + struct.pack("!H", length)
    else:
        header += bytes([masked | 127]) + struct.pack("!Q", length)
    if not masked:
        return header + payload
    mask = draw(st.binary(min_size=4, max_size=4))
    return header + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


frames = st.one_of((plausible | messages()).map(honest_frame), lying_frames())

handshakes = st.just(HANDSHAKE + b"\r\n") | st.one_of(
    st.binary(min_size=1, max_size=300),
    st.sampled_from(
        [
            HANDSHAKE.replace(b"GET", b"POST") + b"\r\n",
            HANDSHAKE.replace(b": 13", b": 99") + b"\r\n",
            HANDSHAKE.replace(b"dGhl", b"!!!!") + b"\r\n",
            HANDSHAKE.replace(b"websocket", b"h2c") + b"\r\n",
            HANDSHAKE.replace(b"/v1/stream", b"/../../etc/passwd") + b"\r\n",
            HANDSHAKE.replace(b"/v1/stream", b"/" + b"a" * 100_000) + b"\r\n",
            HANDSHAKE + b"X-Long: " + b"a" * 100_000 + b"\r\n\r\n",
            HANDSHAKE + b"X-Many: a\r\n" * 1000 + b"\r\n",
            HANDSHAKE + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
            HANDSHAKE + b"Sec-WebSocket-Protocol: tracking.v1, bearer.\xff\xfe\r\n\r\n",
            HANDSHAKE + b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99\r\n\r\n",
            HANDSHAKE + b"Content-Length: 10000000000\r\n\r\n",
            HANDSHAKE,
        ]
    ),
)
conversations = st.tuples(handshakes, st.lists(frames, max_size=6))


OPEN = HANDSHAKE + b"\r\n"


def said(**message: Any) -> bytes:
    return honest_frame(json.dumps(message).encode())


CLASSICS = {
    "1002": (OPEN, [b"\x81\x02{}"]),
    "1007": (OPEN, [b"\x88\x84\x00\x00\x00\x00\x03\xe8\xff\xff"]),
    "4400": (OPEN, [honest_frame(b"{")]),
    "4401": (OPEN, [said(type="subscribe", token="x.y.z")]),
    "4403": (OPEN, [said(type="subscribe", token=token(scope="orders:write"))]),
    "4413": (OPEN, [honest_frame(b"x" * 70_000)]),
}
"""By the code that they are closed with: unmasked, no UTF-8, no JSON, forged, without the scope, too big."""


Talk = tuple[bytes, list[bytes]]
"""A handshake, and what is sent after it."""


def made(number: int) -> list[Talk]:
    """So many conversations, the same ones each time."""
    found: list[Talk] = []

    @settings(
        max_examples=number,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(conversations)
    def collect(conversation: tuple[bytes, list[bytes]]) -> None:
        found.append(conversation)

    collect()
    return found


@pytest.fixture
def talks() -> list[Talk]:
    """What is said. It is made before the stage is set: that takes seconds, in which the broker would hear no
    heartbeats of the test.
    """
    return [*made(CONVERSATIONS), *CLASSICS.values()]


@pytest.fixture
async def stage(start_service: StartService, service_environment: dict[str, str]) -> AsyncIterator[Stage]:
    async with notifier_stage(start_service, service_environment, NOTIFIER_HEARTBEAT_SECONDS="2") as stage:
        yield stage


async def hold(stage: Stage, conversation: tuple[bytes, list[bytes]], gate: asyncio.Semaphore) -> bytes:
    """Holds a conversation, and leaves at its end, or when the notifier waits for what will never come."""
    address = urlsplit(stage.url)
    handshake, said = conversation
    async with gate:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        answer = b""
        with suppress(ConnectionError):
            writer.write(handshake)
            answer = await heard(reader, b"\r\n\r\n")
            for chunk in (*said, CLOSE):
                writer.write(chunk)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await writer.drain()
            answer += await heard(reader)
        writer.transport.abort()
    return answer


async def heard(reader: asyncio.StreamReader, end: bytes | None = None) -> bytes:
    """What comes, up to `end` or the end of the connection, or until nothing more comes for now."""
    answer = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(HEARD_SECONDS):
            while chunk := await reader.read(65_536):
                answer += chunk
                if end is not None and end in answer:
                    break
    return answer


async def test_hundreds_of_hostile_conversations_disturb_nobody(talks: list[Talk], stage: Stage) -> None:
    order = new_order()
    statuses = ["created", "picked_up", "in_transit", "in_transit", "delivered"]
    assert len(talks) > CONVERSATIONS // 2
    gate = asyncio.Semaphore(AT_ONCE)
    async with subscribed(stage.url, stage.token(sub="good")) as good:
        async with asyncio.TaskGroup() as group:
            held = [group.create_task(hold(stage, talk, gate)) for talk in talks]
            for status in statuses:
                await stage.stub.commit((order, "acme", status))
        assert ids(await good.events(5)) == [f"{order}:{version}" for version in range(1, 6)]
        answers = [task.result() for task in held]
        assert sum(answer.startswith(b"HTTP/1.1 101") for answer in answers) > CONVERSATIONS // 4
        assert not any(b"Traceback" in answer for answer in answers)

        async def alone() -> bool:
            return await stage.metric("tracking_stream_connections") == 1

        await eventually(alone, seconds=PATIENCE_SECONDS)
    codes = await closed_codes(stage)
    assert CLASSICS.keys() <= codes, codes
    assert "1011" not in codes
    assert await stage.metric("tracking_stream_no_request_total") > 0
    log = await asyncio.to_thread(stage.notifier.log_path.read_text)
    assert "Traceback" not in log
    assert len(log) < 1000 * CONVERSATIONS


async def closed_codes(stage: Stage) -> set[str]:
    """The codes that the notifier has closed connections with."""
    async with ClientSession() as session, session.get(f"{stage.notifier.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    counted = [line for line in lines if line.startswith("tracking_stream_closed_total{")]
    return {line.split('"')[1] for line in counted}
