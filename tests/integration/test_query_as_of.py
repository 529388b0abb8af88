"""Where reads by recorded time say that they end: the horizon of the partition that is furthest behind."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from query_stack import PARTITIONS, START, QueryClient, random_world, running_query, store, token

from tracking_shared.contracts.timestamps import UNIX_EPOCH, format_time

WORLD = random_world(orders=40, steps=2)
HORIZON = START + timedelta(minutes=7)
EVER = {"from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z"}
SINCE = {"updated_from": "2026-01-01T00:00:00Z", "sort": "updated_at"}


@pytest.fixture(scope="module")
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        await store(client.database, WORLD)
        yield client


async def advance(query: QueryClient, horizon: datetime) -> None:
    """One partition is at `horizon`, and each other one further on."""
    for partition in range(PARTITIONS):
        time = horizon + timedelta(seconds=(partition + 2) % PARTITIONS)
        await query.database.partitions.update_one({"_id": partition}, {"$set": {"horizon": time}})


@pytest.mark.parametrize("bound", ["created_from", "created_to", "updated_from", "updated_to", "closed_from"])
async def test_a_list_by_time_says_before_when_nothing_can_still_appear(
    query: QueryClient, bound: str
) -> None:
    await advance(query, HORIZON)
    answer = await query.get("/v1/orders", {bound: format_time(START)}, token=token())
    assert answer.json["as_of"] == answer.headers["As-Of"] == format_time(HORIZON)


async def test_a_list_without_a_time_says_nothing_of_it(query: QueryClient) -> None:
    answer = await query.get("/v1/orders", {"status": "created"}, token=token())
    assert answer.json.keys() == {"items", "next_cursor"}
    assert "As-Of" not in answer.headers


@pytest.mark.parametrize("kind", ["text/csv", "application/x-ndjson", "application/vnd.apache.parquet"])
async def test_every_file_says_it(query: QueryClient, kind: str) -> None:
    await advance(query, HORIZON)
    for parameters in ({}, SINCE):
        answer = await query.get("/v1/orders", parameters, token=token(), headers={"Accept": kind})
        assert answer.status == 200
        assert answer.headers["As-Of"] == format_time(HORIZON)


async def test_all_pages_say_what_the_first_one_said(query: QueryClient) -> None:
    await advance(query, HORIZON)
    told, cursor = [], None
    while not told or cursor:
        parameters = SINCE | {"limit": "15"} | ({"cursor": cursor} if cursor else {})
        page = await query.get("/v1/orders", parameters, token=token())
        told.append((page.json["as_of"], page.headers["As-Of"]))
        cursor = page.json["next_cursor"]
        await advance(query, HORIZON + timedelta(hours=len(told)))
    assert told == [(format_time(HORIZON), format_time(HORIZON))] * 3


REPORTS = ["durations", "status-counts", "punctuality", "refusals", "open-orders", "created-and-closed"]


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("kind", ["application/json", "text/csv"])
async def test_a_report_of_recorded_times_says_it(query: QueryClient, report: str, kind: str) -> None:
    await advance(query, HORIZON)
    path = f"/v1/reports/{report}"
    parameters = {} if report == "open-orders" else EVER
    answer = await query.get(path, parameters, token=token(), headers={"Accept": kind})
    assert answer.headers["As-Of"] == format_time(HORIZON)
    if kind == "application/json":
        assert answer.json["as_of"] == format_time(HORIZON)


@pytest.mark.parametrize("report", ["durations", "status-counts", "punctuality"])
async def test_a_report_of_the_times_that_sources_told_does_not(query: QueryClient, report: str) -> None:
    answer = await query.get(f"/v1/reports/{report}", EVER | {"clock": "occurred"}, token=token())
    assert "as_of" not in answer.json
    assert "As-Of" not in answer.headers


async def test_of_a_partition_that_no_owner_has_advanced_yet_nothing_is_known(query: QueryClient) -> None:
    await advance(query, HORIZON)
    await query.database.partitions.update_one({"_id": 2}, {"$unset": {"horizon": ""}})
    answer = await query.get("/v1/orders", SINCE, token=token())
    assert answer.json["as_of"] == format_time(UNIX_EPOCH)

    await query.database.prepare(PARTITIONS)
    partition = await query.database.partitions.find_one({"_id": 2})
    assert partition is not None
    assert partition["horizon"] == UNIX_EPOCH
    kept = await query.database.partitions.find_one({"_id": 1})
    assert kept is not None
    assert kept["horizon"] > HORIZON
