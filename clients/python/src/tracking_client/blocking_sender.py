"""A sender for programs without asyncio, such as those with Flask or Django, and scripts.

with BlockingSender("http://localhost:8001", token) as sender:
    result = sender.send(update("acme-1001", "picked_up"))
"""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from threading import Lock, Thread
from typing import Any, Self, TypeVar

from tracking_client.batch_client import GIVE_UP_SECONDS
from tracking_client.errors import SenderClosed
from tracking_client.operations import Operation
from tracking_client.results import Result
from tracking_client.sender import CONNECTIONS, MAX_PENDING, Sender
from tracking_client.tokens import Token

T = TypeVar("T")


class BlockingSender:
    """A `Sender` whose methods block, with the same guarantees. Any number of threads may share one.

    The sender works in a thread of its own while it is open. A process that forks opens it after the fork.
    A function that returns tokens is called in that thread.
    """

    def __init__(
        self,
        ingest_url: str,
        token: Token,
        *,
        max_pending: int = MAX_PENDING,
        connections: int = CONNECTIONS,
        give_up_seconds: float = GIVE_UP_SECONDS,
    ) -> None:
        self._ingest_url = ingest_url
        self._token = token
        self._max_pending = max_pending
        self._connections = connections
        self._give_up_seconds = give_up_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = Lock()
        """Held while something is handed to the loop: a loop that has ended would never do it."""
        self._thread: Thread | None = None
        self._sender: Sender | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="tracking-sender", daemon=True)
        self._thread.start()
        try:
            self._sender = self._call(self._open())
        except BaseException:
            self._end_thread()
            raise
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        """Waits until everything is decided. After an error in the block it does not wait, as `Sender`."""
        try:
            self._call(self._opened().__aexit__(error_type, None, None))
        finally:
            self._sender = None
            self._end_thread()

    def send(self, operation: Operation) -> Result:
        """Sends an operation and waits for its result.

        Raises:
            BatchRefused: the server refuses the request, for example its token.
            Undecided: there was no result for `give_up_seconds`. It is safe to send the operation again.
            SenderClosed: the sender is not open.
        """
        return self._call(self._opened().send(operation))

    def submit(self, operation: Operation) -> Future[Result]:
        """Takes an operation, and returns the future of its result, which raises as `send` does. Waits while
        `max_pending` are undecided.
        """
        taken = self._call(self._opened().submit(operation))
        return self._start(_result_of(taken))

    def flush(self) -> None:
        """Waits until everything that was submitted is decided, or given up."""
        self._call(self._opened().flush())

    def outcome(self, order_id: str, update_id: str) -> Result | None:
        """Reads the outcome of an update, as `Sender.outcome` does."""
        return self._call(self._opened().outcome(order_id, update_id))

    async def _open(self) -> Sender:
        # In the loop of the thread, which its parts belong to.
        sender = Sender(
            self._ingest_url,
            self._token,
            max_pending=self._max_pending,
            connections=self._connections,
            give_up_seconds=self._give_up_seconds,
        )
        return await sender.__aenter__()

    def _opened(self) -> Sender:
        if self._sender is None:
            raise SenderClosed("the sender is not open")
        return self._sender

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self._start(work).result()
        except CancelledError:
            raise SenderClosed("the sender was closed") from None

    def _start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._starting:
            if self._loop is not None:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise SenderClosed("the sender is not open")

    def _end_thread(self) -> None:
        with self._starting:
            loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        # Other threads may still wait in a method.
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _result_of(taken: "asyncio.Future[Result]") -> Result:
    return await taken
