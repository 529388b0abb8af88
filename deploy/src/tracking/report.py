"""Asks query for a report."""

import re
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout

from shared.time_zones import time_zones

Report = Literal["durations", "status-counts", "open-orders", "refusals"]

REQUEST_TIMEOUT = ClientTimeout(total=60)
"""The service gives up earlier, and says why."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d")

Question = list[tuple[str, str]]
"""Parameters of the request; some come several times."""


class NoReport(Exception):
    """There is no such report, or nobody to ask. The message says why."""


async def fetch_report(query_url: str, token: str, report: Report, question: Question) -> dict[str, Any]:
    """The report, as the service answers it.

    Raises:
        NoReport: it was refused, or query cannot be reached.
    """
    url = f"{query_url.rstrip('/')}/v1/reports/{report}"
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    try:
        async with (
            ClientSession(timeout=REQUEST_TIMEOUT) as session,
            session.get(url, params=question, headers=headers) as response,
        ):
            body = await response.read()
            if response.status != 200:
                raise NoReport(_reason(response.status, body))
            document: dict[str, Any] = orjson.loads(body)
    except (ClientError, TimeoutError) as error:
        raise NoReport(f"{query_url}: {str(error) or 'no answer in time'}") from error
    return document


def _reason(status: int, body: bytes) -> str:
    try:
        problem = orjson.loads(body)
        errors = problem.get("errors", [])
        told = [f"{error['pointer'].removeprefix('/query/')} {error['message']}" for error in errors]
        return "; ".join(told) or str(problem["detail"])
    except (orjson.JSONDecodeError, AttributeError, TypeError, KeyError):
        return f"the answer was {status}"


def time_of_option(option: str, text: str, time_zone: str) -> str:
    """A time for the request: as it is, or for a date its midnight in the zone.

    Raises:
        NoReport: there is no such date or zone.
    """
    if not _DATE.fullmatch(text):
        return text
    if time_zone not in time_zones():
        raise NoReport(f"--time-zone {time_zone}: not an IANA time zone, like Europe/Berlin")
    try:
        return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(time_zone)).isoformat()
    except ValueError:
        raise NoReport(f"{option} {text}: there is no such date") from None
