"""Answers that are read from the database while they are sent."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from shared.database import DatabaseUnavailable
from shared.edges import STALL_SECONDS

log = logging.getLogger(__name__)


class Stream(StreamingResponse):
    """Sends a body piece by piece. One that fails half-way is cut off: nobody takes a part for the whole.

    It is never cancelled while it reads: the driver would keep the lock of its connections for ever. So it
    looks whether the client has left, instead of being interrupted as its base class is.
    """

    def __init__(
        self,
        body: AsyncGenerator[bytes],
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        *,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        super().__init__(body, headers=headers, media_type=media_type)
        self._body = body
        self._stall_seconds = stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers until the end, or until the client has left."""
        leaving = asyncio.create_task(self.listen_for_disconnect(receive))
        try:
            async with aclosing(self._body):
                await self._answer(send, leaving)
        finally:
            leaving.cancel()

    async def _answer(self, send: Send, leaving: asyncio.Task[None]) -> None:
        # Returning without the end of the body makes the server close the connection.
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for chunk in self._body:
                if leaving.done():
                    return
                async with asyncio.timeout(self._stall_seconds):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError:
            log.warning("answer cut off: the client took nothing for %s s", self._stall_seconds)
            return
        except DatabaseUnavailable as error:
            log.warning("answer cut off: %s", error)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
