"""Tokens that a caller gives as a text, or as a function that returns a valid one."""

import asyncio
from collections.abc import Awaitable, Callable

from tracking_client.token_claims import refresh_in

Token = str | Callable[[], str | Awaitable[str]]

TOKEN_SECONDS = 10.0
"""The time limit for a coroutine function to return a token."""


async def ask_token(token: Token) -> str:
    """The token, or what its function returns now.

    Raises:
        TimeoutError: not within `TOKEN_SECONDS`.
        Exception: an error of the function.
    """
    if isinstance(token, str):
        return token
    answer = token()
    if isinstance(answer, str):
        return answer
    async with asyncio.timeout(TOKEN_SECONDS):
        return await answer


class TokenCache:
    """A token that is used until shortly before it expires."""

    def __init__(self, token: Token) -> None:
        self._source = token
        self._token: str | None = None
        self._fresh_until: float | None = None
        self._asking = asyncio.Lock()  # one request for a token at a time

    async def current(self) -> str:
        """The token to send now.

        Raises:
            Exception: as `ask_token`.
        """
        async with self._asking:
            is_old = self._fresh_until is not None and _now() >= self._fresh_until
            if self._token is None or is_old:
                self._token = await ask_token(self._source)
                wait = refresh_in(self._token)
                self._fresh_until = None if wait is None else _now() + wait
            return self._token

    async def replaces(self, refused: str) -> bool:
        """True if there is another token than the one that the server refused."""
        if isinstance(self._source, str):
            return False
        if self._token == refused:
            self._token = None
        return await self.current() != refused


def _now() -> float:
    return asyncio.get_running_loop().time()
