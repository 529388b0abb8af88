"""The session of an event stream: its request says what a WebSocket client says in messages."""

from dataclasses import replace

from websockets.http11 import Request

from tracking_notifier.errors import Refusal
from tracking_notifier.session.catchup import Subscription
from tracking_notifier.session.client_connection import StreamConnection, handshake_tokens
from tracking_notifier.session.session import Session
from tracking_notifier.session.session_context import SessionContext
from tracking_notifier.stream.stream_messages import NOT_AUTHENTICATED, Subscribe
from tracking_shared.http.callers import no_token


def token_of(request: Request) -> str:
    """The token of a request for an event stream.

    Raises:
        Refusal: there is none.
    """
    for token in handshake_tokens(request.headers):
        return token
    problem = no_token("Send a token in the Authorization header.")
    raise Refusal(NOT_AUTHENTICATED, "not authenticated", problem)


class EventStreamSession(Session):
    """The session of a client that sends nothing after its request."""

    __slots__ = ("_subscription",)

    def __init__(self, connection: StreamConnection, context: SessionContext, token: str) -> None:
        super().__init__(connection, context, token)
        self._subscription: Subscription | None = None

    def open(self, request: Subscribe) -> None:
        """Admits the client, before the response to its request. `run` or `release` must follow.

        Raises:
            Refusal: the client, or its request, is not acceptable. Nothing need be released.
        """
        self._context.admission.enter()
        try:
            # Browsers reconnect with the `id` of whichever message was the last.
            self._subscription = replace(self._accept(request), resumes_from_every_cursor=True)
        except Refusal:
            self.release()
            raise

    def release(self) -> None:
        """Ends the subscription, and no longer counts the connection."""
        super().release()
        self._context.admission.leave()

    async def _serve(self) -> None:
        try:
            if self._subscription is not None and self._closing is None:
                self._delivery.start(self._subscription)
            await self._connection.wait_closed()
        finally:
            self.release()
        if self._closing is not None:
            await self._closing
