"""A TCP balancer in front of the nodes: each connection goes to the next node that takes it.

As balancers do by default, it knows of a node only whether it takes connections, and ends a connection only
when one of its sides does.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count

CONNECT_SECONDS = 1.0
"""Then the next node is tried."""
CHUNK_BYTES = 65_536


@asynccontextmanager
async def balancer(port: int, targets: Sequence[tuple[str, int]]) -> AsyncIterator[None]:
    """Listens on 127.0.0.1 while the body runs."""
    turns = count()
    open_now: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        turn = next(turns)
        for step in range(len(targets)):
            target = targets[(turn + step) % len(targets)]
            with suppress(OSError, TimeoutError):
                far_reader, far_writer = await asyncio.wait_for(
                    asyncio.open_connection(*target), CONNECT_SECONDS
                )
                await _join((reader, writer), (far_reader, far_writer))
                return
        writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        open_now.add(task)
        task.add_done_callback(open_now.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _join(near: _Streams, far: _Streams) -> None:
    """Until one of both has ended."""
    ways = [asyncio.create_task(_copy(near[0], far[1])), asyncio.create_task(_copy(far[0], near[1]))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        near[1].transport.abort()
        far[1].transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
