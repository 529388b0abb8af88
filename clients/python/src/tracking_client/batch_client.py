"""Sends batches to ingest and reads outcomes, over HTTP. Says of each operation if it is decided."""

import asyncio
import random
from time import monotonic
from typing import Any
from urllib.parse import quote

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout

from tracking_client.errors import BatchRefused, TokenUnavailable, Undecided
from tracking_client.json_text import decode
from tracking_client.results import problem_of
from tracking_client.tokens import Token, TokenCache

GIVE_UP_SECONDS = 120.0
"""The time limit for repeating one batch. A restart of the whole system takes a tenth of it."""

FIRST_WAIT_SECONDS = 0.1
MAX_WAIT_SECONDS = 5.0
"""Waits double from the first to this one, each with jitter so that clients spread."""

MAX_RETRY_AFTER_SECONDS = 60.0

SERVER_WAIT_SECONDS = 10
"""The time that the server may wait for the outcomes before it answers `accepted`."""

REQUEST_TIMEOUT = ClientTimeout(total=SERVER_WAIT_SECONDS + 20)

_TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})

Line = dict[str, Any]
"""The result of one operation as the server sends it."""


class BatchClient:
    """Sends batches to one ingest, with tokens from one source."""

    def __init__(self, session: ClientSession, ingest_url: str, token: Token) -> None:
        self._session = session
        self._base = ingest_url.rstrip("/")
        self._tokens = TokenCache(token)

    async def decide(self, operations: list[bytes]) -> list[Line]:
        """Sends operations, each an encoded JSON object, and returns their results in the same order.

        What is not decided is sent again, with the same update ids. The outcome of each is `applied`,
        `duplicate`, `rejected` or `held`: held ones came too early, and the server decides them when what
        comes before them has come, or their time is over.

        Raises:
            BatchRefused: the server refuses the batch (token, size, …).
            Undecided: after `GIVE_UP_SECONDS` something is still undecided.
        """
        decided: dict[int, Line] = {}
        failures, deadline = 0, monotonic() + GIVE_UP_SECONDS
        while True:
            try:
                await self._decide_rest(operations, decided)
            except Undecided as error:
                if monotonic() >= deadline:
                    raise
                failures += 1
                await asyncio.sleep(wait_seconds(failures, error.retry_after_seconds))
            else:
                return [decided[index] for index in range(len(operations))]

    async def _decide_rest(self, operations: list[bytes], decided: dict[int, Line]) -> None:
        open_indexes = [index for index in range(len(operations)) if index not in decided]
        results = await self.post([operations[index] for index in open_indexes])
        decided |= {
            index: result for index, result in zip(open_indexes, results, strict=True) if is_decided(result)
        }
        if len(decided) < len(operations):
            raise Undecided(reason_of(next(result for result in results if not is_decided(result))))

    async def post(self, operations: list[bytes]) -> list[Line]:
        """Sends operations once, and returns a line for each.

        Raises:
            BatchRefused: the server refuses the batch.
            Undecided: the server is unavailable, or its answer was lost.
        """
        body = b"[" + b",".join(operations) + b"]"
        headers = {"Content-Type": "application/json", "Prefer": f"wait={SERVER_WAIT_SECONDS}"}
        answer = await self._request("POST", "/v1/batch", headers, body)
        if answer is None:
            raise BatchRefused(f"{self._base}/v1/batch is no address of ingest")
        lines: list[Line] = answer["results"]
        if len(lines) != len(operations):
            raise Undecided("the answer does not have a result for each operation")
        return lines

    async def outcome(self, order_id: str, update_id: str) -> Line | None:
        """The outcome of an update; None: it is not known, or not decided yet.

        Raises:
            BatchRefused: the token does not allow it.
            Undecided: the server is unavailable, or its answer was lost.
        """
        path = f"/v1/updates/{quote(order_id, safe='')}/{quote(update_id, safe='')}"
        return await self._request("GET", path, {}, None)

    async def _request(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> dict[str, Any] | None:
        """The JSON object of the answer; None if there is nothing at the path."""
        try:
            token = await self._tokens.current()
            response, content = await self._exchange(method, path, headers, body, token)
            if response.status == 401 and await self._tokens.replaces(token):
                token = await self._tokens.current()
                response, content = await self._exchange(method, path, headers, body, token)
        except (ClientError, OSError, TokenUnavailable) as error:  # a TimeoutError is an OSError
            raise Undecided(f"{self._base}{path}: {str(error) or type(error).__name__}") from error
        return _answer_of(response, content)

    async def _exchange(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None, token: str
    ) -> tuple[ClientResponse, bytes]:
        authorized = headers | {"Authorization": f"Bearer {token}"}
        async with self._session.request(
            method, self._base + path, data=body, headers=authorized, timeout=REQUEST_TIMEOUT
        ) as response:
            return response, await response.read()


def wait_seconds(failures: int, requested_seconds: float = 0.0) -> float:
    """The wait after this number of failures (1 or more) in a row: a growing one with jitter, or what the
    server asks for if that is longer."""
    longest = min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(failures - 1, 10))
    return max(requested_seconds, longest * random.uniform(0.5, 1.0))


def is_decided(result: Line) -> bool:
    """True if there is no reason to repeat the operation at once."""
    if result["outcome"] == "rejected":
        status: int = result["problem"]["status"]
        return status == 500 or status not in _TRANSIENT_STATUSES  # 500: an operator skipped it
    return bool(result["outcome"] != "accepted")


def reason_of(result: Line) -> str:
    """The reason why an operation is not decided."""
    return str(result.get("problem", {}).get("title", "the outcome is not known yet"))


def _answer_of(response: ClientResponse, content: bytes) -> dict[str, Any] | None:
    if response.status == 200:
        try:
            answer = decode(content)
        except ValueError as error:
            raise Undecided(f"{response.url} answers what is not JSON") from error
        if not isinstance(answer, dict):
            raise Undecided(f"{response.url} answers what is no object")
        return answer
    if response.status == 404:
        return None
    if response.status in _TRANSIENT_STATUSES:
        raise Undecided(f"{response.status} {_message_of(content)}", _retry_after(response))
    message = f"{response.url} answers {response.status}: {_message_of(content)}"
    raise BatchRefused(message, problem_of(_decoded(content)))


def _decoded(content: bytes) -> object:
    try:
        return decode(content)
    except ValueError:
        return None


def _message_of(content: bytes) -> str:
    """Title and detail of a problem document, or the beginning of another text."""
    problem = problem_of(_decoded(content))
    return str(problem) if problem else " ".join(content[:200].decode(errors="replace").split())


def _retry_after(response: ClientResponse) -> float:
    text = response.headers.get("Retry-After", "")
    return min(float(text), MAX_RETRY_AFTER_SECONDS) if text.isdecimal() else 0.0
