#!/usr/bin/env python3
"""Stands in for mongod in a container: the embedded database, behind a relay at port 27017.

The relay says in every `hello` what a replica set of one would (`rs0` at `mongodb:27017`). With `--keyFile`
the database asks for users, and has root from its first start on.
"""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from struct import pack, unpack_from

from bson import decode, encode
from pymongo import MongoClient

STORAGE = Path("/data/db/secantus")
ROOT_MADE = Path("/data/db/root-made")
PORT, INNER_PORT = 27017, 27018
SET_NAME, ADDRESS = "rs0", "mongodb:27017"
OPTIONS = ("--sync-on-commit", "--log-file-max=128MB", "--cache-size=1G", "--oplog-max-entries=100000000")
START_SECONDS = 60
OP_REPLY, OP_MSG = 1, 2013
DOCUMENT_AT = {OP_REPLY: 20, OP_MSG: 5}
"""Where the document of a message begins, behind its head."""


async def start_server(*more: str) -> asyncio.subprocess.Process:
    """The database, as soon as it can be reached."""
    place = (f"--port={INNER_PORT}", f"--storage-path={STORAGE}")
    server = await asyncio.create_subprocess_exec("secantusd-rs", "--host=127.0.0.1", *place, *OPTIONS, *more)
    async with asyncio.timeout(START_SECONDS):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", INNER_PORT)
                writer.close()
                return server
            await asyncio.sleep(0.1)


async def make_root() -> None:
    """The first user, while nobody is asked for one yet."""
    server = await start_server()
    with MongoClient("127.0.0.1", INNER_PORT, directConnection=True) as client:
        name, password = os.environ["MONGO_INITDB_ROOT_USERNAME"], os.environ["MONGO_INITDB_ROOT_PASSWORD"]
        client.admin.command("createUser", name, pwd=password, roles=["root"])
    server.terminate()
    await server.wait()


def named(operation: int, body: bytes) -> bytes:
    """The body of a message of the server; where it is a `hello`, with the names of the set."""
    start = DOCUMENT_AT.get(operation)
    if start is None or b"setName" not in body:
        return body
    document = decode(body[start:])
    if "setName" not in document:
        return body
    document |= {"setName": SET_NAME, "hosts": [ADDRESS], "primary": ADDRESS, "me": ADDRESS}
    return body[:start] + encode(document)


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection."""
    back: asyncio.StreamWriter | None = None
    with suppress(OSError, asyncio.IncompleteReadError):
        answers, back = await asyncio.open_connection("127.0.0.1", INNER_PORT)
        there, here = (
            asyncio.ensure_future(copy(reader, back)),
            asyncio.ensure_future(answer(answers, writer)),
        )
        await asyncio.wait((there, here), return_when=asyncio.FIRST_COMPLETED)
        for way in (there, here):
            way.cancel()
    writer.close()
    if back is not None:
        back.close()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """From the client to the server, as it is."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """From the server to the client, message by message."""
    while True:
        head = await reader.readexactly(16)
        length, number, request, operation = unpack_from("<iiii", head)
        body = named(operation, await reader.readexactly(length - 16))
        writer.write(pack("<iiii", 16 + len(body), number, request, operation) + body)
        await writer.drain()


async def serve(*, with_users: bool) -> int:
    """Serves until SIGTERM, or until the database ends."""
    server = await start_server(*(["--auth"] if with_users else []))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.terminate)
    await asyncio.start_server(relay, "0.0.0.0", PORT)  # noqa: S104 - inside its container
    return await server.wait()


def main() -> int:
    """As `mongod` would be called."""
    STORAGE.mkdir(exist_ok=True)
    with_users = "--keyFile" in sys.argv
    needs_root = with_users and not ROOT_MADE.exists()
    if needs_root:
        asyncio.run(make_root())
        ROOT_MADE.touch()
    return asyncio.run(serve(with_users=with_users))


if __name__ == "__main__":
    sys.exit(main())
