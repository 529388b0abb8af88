"""Nuisances: connections that do what no client should, again and again, beside those that behave."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import orjson
from benchmarks.socket_client import CLOSE, HEAD_END, PONG, TEXT, client_frame, handshake, next_frame

from viewers import EVERY_STATUS

EACH = 4
"""Of every kind, at the same time."""

PAUSE_SECONDS = 1.0
"""Before the next attempt, and between signs of life."""

ENDS_WITHIN_SECONDS = 12
"""Of every kind but those that read nothing, which stay until they are cut."""

READ_BYTES = 64 * 1024

CUT = "cut"
"""How a connection ends on which nobody says why: the notifier was killed, or is frozen."""

TRY_LATER = "1013"
"""What those are told who come before a notifier has found the end of the log."""

BINARY = 0x2


def misbehaviours(token: str) -> dict[str, tuple[bytes, str]]:
    """What each kind sends after its handshake, and how it must end."""
    subscribe = client_frame(TEXT, orjson.dumps({"type": "subscribe", "token": token, "snapshot": False}))
    again = client_frame(TEXT, orjson.dumps({"type": "subscribe", "snapshot": False}))
    return {
        "says nothing": (b"", "4408"),
        "sends what is no frame": (b"\xff" * 4096, "1002"),
        "sends what is no JSON": (client_frame(TEXT, b'{"type": "subscri'), "4400"),
        "sends noise": (client_frame(BINARY, bytes(range(256))), "4400"),
        "sends too much": (client_frame(TEXT, b"x" * 70_000), "4413"),
        "announces far too much": (b"\x81\xff" + (2**40).to_bytes(8) + bytes(4), "4413"),
        "subscribes a thousand times": (subscribe + again * 1000, "4429"),
    }


class Nuisances:
    """All of them, and how each attempt ended."""

    def __init__(self, url: str, token: str) -> None:
        address = urlsplit(url)
        self._host, self._port, self._path = address.hostname or "", address.port or 80, address.path
        self._token = token
        self._kinds = misbehaviours(token)
        self.ends: dict[str, Counter[str]] = {kind: Counter() for kind in self._kinds}
        """By kind: close codes, or `CUT`."""

    async def all_punished(self) -> bool:
        """Whether every kind has ended as it must.

        Raises:
            AssertionError: one has ended in another way.
        """
        for kind, ends in self.ends.items():
            others = ends.keys() - {self._kinds[kind][1], CUT, TRY_LATER}
            assert not others, (kind, ends)
        return all(ends[self._kinds[kind][1]] for kind, ends in self.ends.items())

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(EACH):
                group.create_task(self._read_nothing(snapshot=number % 2 == 0))
                for kind in self._kinds:
                    group.create_task(self._persist(kind))

    async def _persist(self, kind: str) -> None:
        while True:
            end = CUT
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(ENDS_WITHIN_SECONDS):
                    end = await self._misbehave(self._kinds[kind][0])
            self.ends[kind][end] += 1
            await asyncio.sleep(PAUSE_SECONDS)

    async def _misbehave(self, behaviour: bytes) -> str:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(handshake(self._host, self._port, self._path))
            with suppress(asyncio.IncompleteReadError):
                await reader.readuntil(HEAD_END)
                writer.write(behaviour)
                data = b""
                while chunk := await reader.read(READ_BYTES):
                    data += chunk
                    if code := close_code(data):
                        return code
            return CUT
        finally:
            writer.transport.abort()

    async def _read_nothing(self, *, snapshot: bool) -> None:
        """With a snapshot it is cut before it is live, once that is larger than the kernel's buffers."""
        asked = {
            "type": "subscribe",
            "token": self._token,
            "filter": {"status": EVERY_STATUS},
            "snapshot": snapshot,
        }
        request = client_frame(TEXT, orjson.dumps(asked))
        while True:
            with suppress(OSError):
                await self._be_deaf(request)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _be_deaf(self, request: bytes) -> None:
        """Until it is cut. Its heartbeat goes on: who only reads nothing is not dead."""
        loop = asyncio.get_running_loop()
        with socket.socket() as deaf:
            # Else the kernel takes megabytes for it, and the server has nothing to bear.
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
            deaf.setblocking(False)
            await loop.sock_connect(deaf, (self._host, self._port))
            await loop.sock_sendall(deaf, handshake(self._host, self._port, self._path) + request)
            while True:
                await asyncio.sleep(PAUSE_SECONDS)
                await loop.sock_sendall(deaf, client_frame(PONG, b""))


def close_code(data: bytes) -> str | None:
    """The code of the close frame among these frames; None if there is none."""
    at = 0
    while (frame := next_frame(data, at)) is not None:
        opcode, start, at = frame
        if opcode == CLOSE:
            return str(int.from_bytes(data[start : start + 2]))
    return None


@asynccontextmanager
async def nuisances(url: str, token: str) -> AsyncIterator[Nuisances]:
    """They are there while the body runs."""
    them = Nuisances(url, token)
    task = asyncio.create_task(them.run())
    try:
        yield them
        assert not task.done(), task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
