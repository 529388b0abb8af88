"""Sends batches to ingest and repeats them, with the same update ids, until all operations are decided."""

from typing import Any

import orjson
from aiohttp import ClientConnectionError, ClientPayloadError, ClientResponse, ClientSession, ClientTimeout
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay
from tenacity.wait import wait_base, wait_random_exponential

from tracking_client import TrackingClientError

GIVE_UP_SECONDS = 120
"""The time limit for repeating one batch. A restart of the whole system takes a tenth of it."""

MAX_WAIT_SECONDS = 5

SERVER_WAIT_SECONDS = 10
"""The time that the server may wait for the outcomes before it answers `accepted`."""

REQUEST_TIMEOUT = ClientTimeout(total=SERVER_WAIT_SECONDS + 20)

_TRANSIENT_STATUSES = frozenset({429, 500, 502, 503, 504})

Result = dict[str, Any]


class BatchRefused(TrackingClientError):
    """The server refuses the whole batch, and would refuse it later too."""


class Undecided(TrackingClientError):
    """Some operations are not decided yet. The message says why."""

    def __init__(self, reason: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class _Wait(wait_base):
    """A growing wait with jitter, or the server's `Retry-After` if that is longer."""

    _growing = wait_random_exponential(multiplier=0.1, max=MAX_WAIT_SECONDS)

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome and retry_state.outcome.exception()
        requested = error.retry_after_seconds if isinstance(error, Undecided) else 0.0
        return max(requested, self._growing(retry_state))


class BatchClient:
    """Sends batches to one ingest with one token."""

    def __init__(self, session: ClientSession, ingest_url: str, token: str) -> None:
        self._session = session
        self._url = f"{ingest_url.rstrip('/')}/v1/batch"
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Prefer": f"wait={SERVER_WAIT_SECONDS}",
        }

    async def decide(self, operations: list[bytes]) -> list[Result]:
        """Sends operations, each an encoded JSON object, and returns their results in the same order.

        The outcome of each is `applied`, `duplicate`, `rejected` or `held`: held ones came too early, and the
        server decides them when what comes before them has come, or their time is over.

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
            undecided = next(result for result in results if not is_decided(result))
            raise Undecided(undecided.get("problem", {}).get("title", "the outcome is not known yet"))

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
    """True if there is no reason to repeat the operation at once."""
    if result["outcome"] == "rejected":
        status: int = result["problem"]["status"]
        return status == 500 or status not in _TRANSIENT_STATUSES  # 500: an operator skipped it
    return bool(result["outcome"] != "accepted")


async def _results_of(response: ClientResponse) -> list[Result]:
    if response.status == 200:
        results: list[Result] = orjson.loads(await response.read())["results"]
        return results
    text = _message_of(await response.read())
    if response.status in _TRANSIENT_STATUSES:
        raise Undecided(f"{response.status} {text}", _retry_after(response))
    raise BatchRefused(f"{response.url} answers {response.status}: {text}")


def _message_of(body: bytes) -> str:
    """Title and detail of a problem document, or the beginning of another text."""
    try:
        problem = orjson.loads(body)
        return f"{problem['title']}: {problem['detail']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return " ".join(body[:200].decode(errors="replace").split())


def _retry_after(response: ClientResponse) -> float:
    text = response.headers.get("Retry-After", "")
    return min(float(text), 60.0) if text.isdecimal() else 0.0
