"""Between the services and the database: keeps what is asked, passes it on or holds it, ends a connection,
has answers come late, or be those of a server that is behind.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from struct import pack, unpack_from
from typing import Any
from urllib.parse import urlsplit

from bson import Timestamp
from pymongo import AsyncMongoClient

from replica_set.wire import OP_MSG, Document, msg_body, msg_document


@dataclass(frozen=True)
class OlderState:
    """A database as it stood at a moment, kept as another database of the same server."""

    name: str
    copy: str
    time: Timestamp

    def may_answer(self, command: Document) -> bool:
        """Whether a server that is at this moment answers the read, instead of waiting for what is newer."""
        if command.get("$db") != self.name or next(iter(command)) not in ("find", "aggregate"):
            return False
        concern = command.get("readConcern", {})
        if "autocommit" in command or concern.get("level") == "linearizable":
            return False
        return bool(concern.get("afterClusterTime", self.time) <= self.time)


async def older_state(url: str, name: str, copy_name: str) -> OlderState:
    """The database of this name as it stands now."""
    async with AsyncMongoClient[Document](url) as client:
        source, copy = client[name], client[copy_name]
        for collection in await source.list_collection_names():
            if documents := await source[collection].find().to_list():
                await copy[collection].insert_many(documents)
        answer = await client.admin.command("ping")
    return OlderState(name, copy.name, answer["operationTime"])


@dataclass
class WireTap:
    """A database's address, and the commands that came through it."""

    url: str
    upstream: str
    commands: list[Document] = field(default_factory=list)
    cut_at: Document | None = None
    """The next command that holds this is not passed on: its connection ends, once."""
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    """Commands of these names are passed on when the event is set."""
    late_seconds: dict[str, float] = field(default_factory=dict)
    """How late the answers to commands of these names come: as where the majority lags, the server has done
    by then what was asked."""
    behind: OlderState | None = None
    """If set, reads are answered from here as far as they allow: so answers a secondary, or a primary that
    was just elected and does not know yet what a majority has."""
    answer: Callable[[Document, Document], Document] | None = None
    """Makes of a command and the database's answer the answer that is passed on."""

    def cuts(self, command: Document) -> bool:
        """Whether the connection ends here."""
        if self.cut_at is None or not self.cut_at.items() <= command.items():
            return False
        self.cut_at = None
        return True

    async def older_state(self, name: str) -> OlderState:
        """The database of this name as it stands now."""
        return await older_state(self.upstream, name, f"{name}_older")

    async def fall_behind(self, name: str) -> None:
        """From now on reads are answered from the database as it stands now."""
        self.behind = await self.older_state(name)


@dataclass
class _Connection:
    """What the answers of one connection need to know of its commands, by the number of the request."""

    tap: WireTap
    late: dict[int, float] = field(default_factory=dict)
    older: dict[int, OlderState] = field(default_factory=dict)
    open: dict[int, Document] = field(default_factory=dict)
    """Commands whose answers the tap makes."""

    def take(self, number: int, body: bytes, command: Document) -> bytes:
        """The body to pass on."""
        name = next(iter(command))
        if name in self.tap.late_seconds:
            self.late[number] = self.tap.late_seconds[name]
        if self.tap.answer is not None:
            self.open[number] = command
        behind = self.tap.behind
        if behind is None or not behind.may_answer(command):
            return body
        self.older[number] = behind
        return msg_body({**command, "$db": behind.copy, "readConcern": {"level": "local"}})


@asynccontextmanager
async def tap_database(url: str) -> AsyncIterator[WireTap]:
    """Listens in front of the database at `url` (one server, no TLS)."""
    parts = urlsplit(url)
    taken: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        taken.add(task)
        connection = _Connection(tap)
        with suppress(ConnectionError, asyncio.CancelledError):
            upstream_reader, upstream = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                async with asyncio.TaskGroup() as group:
                    back = group.create_task(_answer(upstream_reader, writer, connection))
                    await _listen(reader, upstream, connection)
                    back.cancel()
            finally:
                upstream.close()
                writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tap = WireTap(f"mongodb://127.0.0.1:{port}/?{parts.query}", url)
    try:
        yield tap
    finally:
        server.close()
        for task in taken:
            task.cancel()
        await asyncio.gather(*taken, return_exceptions=True)


async def _read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The next message: its head of 16 bytes, and its body."""
    head = await reader.readexactly(16)
    (length,) = unpack_from("<i", head)
    return head, await reader.readexactly(length - 16)


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: _Connection
) -> None:
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head, body = await _read_message(reader)
            _, number, request, operation = unpack_from("<iiii", head)
            await asyncio.sleep(connection.late.pop(request, 0))
            if older := connection.older.pop(request, None):
                body = msg_body({**msg_document(body), "operationTime": older.time})
            command = connection.open.pop(request, None)
            if command is not None and connection.tap.answer is not None:
                body = msg_body(connection.tap.answer(command, msg_document(body)))
            head = pack("<iiii", 16 + len(body), number, request, operation)
            writer.write(head + body)
            await writer.drain()
    writer.close()


async def _listen(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: _Connection
) -> None:
    tap = connection.tap
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head, body = await _read_message(reader)
            _, number, response, operation = unpack_from("<iiii", head)
            if operation == OP_MSG:
                command = msg_document(body)
                tap.commands.append(command)
                if tap.cuts(command):
                    return
                if gate := tap.held.get(next(iter(command))):
                    await gate.wait()
                body = connection.take(number, body, command)
                head = pack("<iiii", 16 + len(body), number, response, operation)
            writer.write(head + body)
            await writer.drain()


def every_key(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key in a document and below, as (the way to it, what it holds)."""
    if isinstance(value, dict):
        for key, held in value.items():
            yield (*path, key), held
            yield from every_key(held, (*path, key))
    elif isinstance(value, list | tuple):
        for held in value:
            yield from every_key(held, path)
