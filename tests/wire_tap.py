"""Between the services and the database: keeps what is asked, passes it on or holds it, ends a connection."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from struct import pack, unpack_from
from typing import Any
from urllib.parse import urlsplit

from bson import decode, decode_all, encode

Document = dict[str, Any]

_OP_MSG = 2013
_CHECKSUM = 1


@dataclass
class WireTap:
    """A database's address, and the commands that came through it."""

    url: str
    commands: list[Document] = field(default_factory=list)
    cut_at: Document | None = None
    """The next command that holds this is not passed on: its connection ends, once."""
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    """Commands of these names are passed on when the event is set."""
    answer: Callable[[Document, Document], Document] | None = None
    """Makes of a command and the database's answer the answer that is passed on."""

    def cuts(self, command: Document) -> bool:
        """Whether the connection ends here."""
        if self.cut_at is None or not self.cut_at.items() <= command.items():
            return False
        self.cut_at = None
        return True


@asynccontextmanager
async def tap_database(url: str) -> AsyncIterator[WireTap]:
    """Listens in front of the database at `url` (one server, no TLS)."""
    parts = urlsplit(url)
    taken: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        taken.add(task)
        with suppress(ConnectionError, asyncio.CancelledError):
            upstream_reader, upstream = await asyncio.open_connection(parts.hostname, parts.port)
            open_commands: dict[int, Document] = {}
            try:
                async with asyncio.TaskGroup() as group:
                    back = group.create_task(_pass(upstream_reader, writer, tap, open_commands))
                    await _listen(reader, upstream, tap, open_commands)
                    back.cancel()
            finally:
                upstream.close()
                writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tap = WireTap(f"mongodb://127.0.0.1:{port}/?{parts.query}")
    try:
        yield tap
    finally:
        server.close()
        for task in taken:
            task.cancel()
        await asyncio.gather(*taken, return_exceptions=True)


async def _pass(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    tap: WireTap,
    open_commands: dict[int, Document],
) -> None:
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readexactly(16)
            length, request_id, response_to, operation = unpack_from("<iiii", head)
            message = head + await reader.readexactly(length - 16)
            command = open_commands.pop(response_to, None)
            if tap.answer is not None and command is not None and operation == _OP_MSG:
                answer = tap.answer(command, _command(message[16:]))
                body = bytes(5) + encode(answer)
                message = pack("<iiii", 16 + len(body), request_id, response_to, operation) + body
            writer.write(message)
            await writer.drain()
    writer.close()


async def _listen(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    tap: WireTap,
    open_commands: dict[int, Document],
) -> None:
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readexactly(16)
            length, request_id, _, operation = unpack_from("<iiii", head)
            body = await reader.readexactly(length - 16)
            if operation == _OP_MSG:
                tap.commands.append(_command(body))
                open_commands[request_id] = tap.commands[-1]
                if tap.cuts(tap.commands[-1]):
                    return
                if gate := tap.held.get(next(iter(tap.commands[-1]))):
                    await gate.wait()
            writer.write(head + body)
            await writer.drain()


def _command(body: bytes) -> Document:
    """The command document, with its sequences of documents in their places."""
    (flags,) = unpack_from("<I", body)
    end = len(body) - (4 if flags & _CHECKSUM else 0)
    command: Document = {}
    place = 4
    while place < end:
        kind = body[place]
        (size,) = unpack_from("<i", body, place + 1)
        section = body[place + 1 : place + 1 + size]
        if kind == 0:
            command |= decode(section)
        else:
            name, _, documents = section[4:].partition(b"\0")
            command[name.decode()] = decode_all(documents)
        place += 1 + size
    return command


def every_key(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key in a document and below, as (the way to it, what it holds)."""
    if isinstance(value, dict):
        for key, held in value.items():
            yield (*path, key), held
            yield from every_key(held, (*path, key))
    elif isinstance(value, list | tuple):
        for held in value:
            yield from every_key(held, path)
