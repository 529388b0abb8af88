"""Sends batches to ingest until every operation in them is decided, with the same ids each time."""

from typing import Any

import orjson
from aiohttp import ClientConnectionError, ClientPayloadError, ClientResponse, ClientSession, ClientTimeout
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay
from tenacity.wait import wait_base, wait_random_exponential

GIVE_UP_SECONDS = 120
"""How long one batch is repeated. A restart of everything takes a tenth of it."""

MAX_WAIT_SECONDS = 5

SERVER_WAIT_SECONDS = 10
"""How long the server may wait for the outcomes before it answers `accepted`."""

REQUEST_TIMEOUT = ClientTimeout(total=SERVER_WAIT_SECONDS + 20)

_TRANSIENT_STATUSES = frozenset({429, 500, 502, 503, 504})

Result = dict[str, Any]


class BatchRefused(Exception):
    """The server does not take the batch as a whole, and would not take it later either."""


class Undecided(Exception):
    """Not every operation has been decided yet. The message says what kept it."""

    def __init__(self, reason: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class _Wait(wait_base):
    """A growing wait with jitter, or what the server asked for if that is longer."""

    _growing = wait_random_exponential(multiplier=0.1, max=MAX_WAIT_SECONDS)

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome and retry_state.outcome.exception()
        asked = error.retry_after_seconds if isinstance(error, Undecided) else 0.0
        return max(asked, self._growing(retry_state))


class BatchClient:
    """Speaks to one ingest with one token."""

    def __init__(self, session: ClientSession, ingest_url: str, token: str) -> None:
        self._session = session
        self._url = f"{ingest_url.rstrip('/')}/v1/batch"
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Prefer": f"wait={SERVER_WAIT_SECONDS}",
        }

    async def decide(self, operations: list[bytes]) -> list[Result]:
        """The result of each operation, in their order: `applied`, `duplicate` or `rejected`.

        An operation is one JSON object, encoded.

        Raises:
            BatchRefused: the server refuses the batch (token, size, …).
            Undecided: after `GIVE_UP_SECONDS` something is still undecided.
        """
        decided: dict[int, Result] = {}
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(Undecided),
            wait=_Wait(),
            stop=stop_after_delay(GIVE_UP_SECONDS),
            reraise=True,
        ):
            with attempt:
                await self._decide_rest(operations, decided)
        return [decided[index] for index in range(len(operations))]

    async def _decide_rest(self, operations: list[bytes], decided: dict[int, Result]) -> None:
        open_indexes = [index for index in range(len(operations)) if index not in decided]
        results = await self._post([operations[index] for index in open_indexes])
        decided |= {
            index: result for index, result in zip(open_indexes, results, strict=True) if is_decided(result)
        }
        if len(decided) < len(operations):
            left = next(result for result in results if not is_decided(result))
            raise Undecided(left.get("problem", {}).get("title", "the outcome is not known yet"))

    async def _post(self, operations: list[bytes]) -> list[Result]:
        try:
            async with self._session.post(
                self._url,
                data=b"[" + b",".join(operations) + b"]",
                headers=self._headers,
                timeout=REQUEST_TIMEOUT,
            ) as response:
                return await _results_of(response)
        except (ClientConnectionError, ClientPayloadError, TimeoutError) as error:
            raise Undecided(f"{self._url}: {str(error) or type(error).__name__}") from error


def is_decided(result: Result) -> bool:
    """Whether repeating the operation could not change its outcome."""
    if result["outcome"] == "rejected":
        status: int = result["problem"]["status"]
        return status == 500 or status not in _TRANSIENT_STATUSES  # 500: an operator gave it up
    return bool(result["outcome"] != "accepted")


async def _results_of(response: ClientResponse) -> list[Result]:
    if response.status == 200:
        results: list[Result] = orjson.loads(await response.read())["results"]
        return results
    text = _said(await response.read())
    if response.status in _TRANSIENT_STATUSES:
        raise Undecided(f"{response.status} {text}", _retry_after(response))
    raise BatchRefused(f"{response.url} answers {response.status}: {text}")


def _said(body: bytes) -> str:
    """What an answer says for a person: the words of its problem document, or the beginning of its text."""
    try:
        problem = orjson.loads(body)
        return f"{problem['title']}: {problem['detail']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return " ".join(body[:200].decode(errors="replace").split())


def _retry_after(response: ClientResponse) -> float:
    text = response.headers.get("Retry-After", "")
    return min(float(text), 60.0) if text.isdecimal() else 0.0
