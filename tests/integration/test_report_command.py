"""`tracking report` against a query service."""

import re
from asyncio import to_thread
from collections.abc import AsyncIterator

import pytest
from query_stack import QueryClient, random_world, running_query, store, token
from typer.testing import CliRunner, Result

from tracking.cli.main import app
from tracking.cli.report import NoReport

WORLD = random_world(orders=40, steps=2)
RANGE = ("--from", "2026-01-01", "--to", "2027-01-01", "--time-zone", "Europe/Berlin")


@pytest.fixture(scope="module")
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        await store(client.database, WORLD)
        yield client


async def report(query: QueryClient, *arguments: str) -> Result:
    asked = ["report", *arguments, "--url", query.url, "--token", token()]
    return await to_thread(CliRunner().invoke, app, asked)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("durations", *RANGE, "--clock", "occurred"), "created → picked_up"),
        (("durations", *RANGE, "--whole-way"), "created → cancelled"),
        (("durations", *RANGE), "as_of 1970-01-01T00:00:00.000Z"),
        (("status-counts", *RANGE, "--interval", "day", "--by-merchant"), "2026-03-01"),
        (("status-counts", *RANGE, "--merchant", "m-1", "--merchant", "m-2"), "cancelled"),
        (("punctuality", *RANGE, "--interval", "day", "--status", "cancelled"), "without due time"),
        (("open-orders", "--since", "updated"), "picked_up  30.0 d to …"),
        (("refusals",), "nothing to count"),
    ],
)
async def test_each_report_is_printed(query: QueryClient, arguments: tuple[str, ...], expected: str) -> None:
    result = await report(query, *arguments)
    assert result.exit_code == 0, result.output
    assert result.output.startswith(arguments[0])
    assert expected in result.output


async def test_the_counts_are_those_of_the_orders(query: QueryClient) -> None:
    result = await report(query, "status-counts", *RANGE)
    [line] = [line for line in result.output.splitlines() if line.startswith("created  ") and "█" not in line]
    assert line.split()[1] == str(len(WORLD.orders))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("durations", "--from", "2026-13-01"), "--from 2026-13-01: there is no such date"),
        (("durations", "--time-zone", "Mars/Crater"), "time_zone .* IANA"),
        (("open-orders", "--interval", "day"), "interval"),
        (("durations", "--merchant", "$ne"), "merchant_id"),
    ],
)
async def test_a_refusal_is_one_clear_line(
    query: QueryClient, arguments: tuple[str, ...], expected: str
) -> None:
    result = await report(query, *arguments)
    assert isinstance(result.exception, NoReport)
    assert re.search(expected, str(result.exception))
    assert "\n" not in str(result.exception)


async def test_a_service_that_is_not_there_is_told() -> None:
    asked = ["report", "durations", "--url", "http://127.0.0.1:1", "--token", "t"]
    result = await to_thread(CliRunner().invoke, app, asked)
    assert isinstance(result.exception, NoReport)
    assert "http://127.0.0.1:1" in str(result.exception)
