"""The reports: for random histories they equal what plain Python finds in all events."""

import asyncio
import csv
import io
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from query_stack import (
    MERCHANTS,
    PARTITIONS,
    START,
    QueryClient,
    World,
    random_world,
    running_query,
    store,
    store_update,
    token,
    token_of,
)

from answers import Answer
from corrected_histories import as_corrected
from property_examples import max_examples
from tracking_query.log.log_search import MAX_DISORDER, positions_between
from tracking_query.reports import figures as report_figures
from tracking_query.reports import report_routes
from tracking_query.reports.counts import OpenOrders, Since
from tracking_query.reports.figures import Clock
from tracking_query.reports.histories import (
    Changes,
    Deadline,
    changes_within,
    histories_of_log,
    open_orders,
    read_histories,
)
from tracking_query.reports.totals import closing_stages, correction_stages, counted
from tracking_shared.contracts.access import Grant, ReadableOrders, reaches, readable_orders, sees_customer
from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.timestamps import format_time
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.storage.database import open_database
from wire_tap import tap_database


def report_world() -> World:
    """Orders over days, whose sources tell times that can be late, early or missing."""
    random = Random(11)
    world = random_world(orders=250, steps=3)
    correct_some(world, random)
    for event in world.events:
        minutes = random.choice([None, 0, 3, 90, 6000])
        told = None if minutes is None else event["recorded_at"] - timedelta(minutes=minutes)
        event["occurred_at"] = None if told is None else told + timedelta(minutes=4)
    return world


def correct_some(world: World, random: Random) -> None:
    """Orders whose steps are corrected, go on after that, and get checkpoints at any time."""
    at = max(event["recorded_at"] for event in world.events)
    for order_id in random.sample(sorted(world.orders), 120):
        for _ in range(random.choice([1, 1, 2, 4, 7])):
            at += timedelta(minutes=random.choice([0, 1, 45, 400]))
            status = world.orders[order_id]["status"]
            following = DEFAULT_WORKFLOW.allowed_next(status)
            match random.choice(["checkpoint", "correction", "step"]):
                case "checkpoint":
                    world.checkpoint(order_id, at)
                case "correction":
                    others = sorted(DEFAULT_WORKFLOW.statuses - {status})
                    world.correct(order_id, random.choice(others), at)
                case _ if following:
                    world.apply(order_id, random.choice(following), at, {})


WORLD = report_world()
END = max(event["recorded_at"] for event in WORLD.events)


@pytest.fixture(scope="module")
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        await store(client.database, WORLD)
        for update in REFUSED:
            await store_update(client.database, **update)
        yield client


TIMES = st.one_of(
    st.sampled_from([event["recorded_at"] for event in WORLD.events]),
    st.datetimes(START.replace(tzinfo=None) - timedelta(days=3), END.replace(tzinfo=None)).map(
        lambda time: time.replace(microsecond=0, tzinfo=UTC)
    ),
)
GRANTS = st.builds(
    Grant,
    merchants=st.one_of(
        st.just(frozenset({"*"})), st.frozensets(st.sampled_from([*MERCHANTS, "m-other"]), max_size=4)
    ),
    orders=st.one_of(
        st.none(), st.none(), st.frozensets(st.sampled_from([*WORLD.orders, "o-none"]), max_size=60)
    ),
)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    start, end = sorted([draw(TIMES), draw(TIMES)])
    asked: dict[str, Any] = {"from": format_time(start), "to": format_time(end)}
    optional = {
        "interval": st.sampled_from(["hour", "day"]),
        "time_zone": st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]),
        "clock": st.sampled_from(["recorded", "occurred"]),
        "group_by": st.just("merchant"),
        "merchant_id": st.lists(st.sampled_from([*MERCHANTS, "m-other"]), min_size=1, max_size=3),
    }
    return asked | {name: draw(values) for name, values in optional.items() if draw(st.booleans())}


def pairs_of(asked: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, value)
        for name, values in asked.items()
        for value in (values if isinstance(values, list) else [values])
    ]


def time_of(asked: dict[str, Any], event: EventDocument) -> datetime:
    if asked.get("clock", "recorded") == "recorded":
        return event["recorded_at"]
    return event["occurred_at"] or event["received_at"]


def is_asked_for(asked: dict[str, Any], grant: Grant, event: EventDocument) -> bool:
    """Whether it is in the range, of a merchant that is asked for, and may be read."""
    at = time_of(asked, event)
    return (
        datetime.fromisoformat(asked["from"]) <= at < datetime.fromisoformat(asked["to"])
        and reaches(grant, event["order_id"], event["merchant_id"])
        and event["merchant_id"] in asked.get("merchant_id", [event["merchant_id"]])
    )


Change = tuple[dict[str, str], EventDocument, str | None, float]


def changes(asked: dict[str, Any], grant: Grant) -> list[Change]:
    """What happened in the range, in plain words: the labels of its row, the event, the status before it and
    the seconds in that.
    """
    zone = ZoneInfo(asked.get("time_zone", "UTC"))
    found: list[Change] = []
    for history in corrected_histories():
        before: tuple[str | None, datetime | None] = (None, None)
        for event in history:
            at = time_of(asked, event)
            previous, since = before
            before = (event["status"], at)
            if is_asked_for(asked, grant, event):
                seconds = (at - (since or at)).total_seconds()
                labels = row_labels(asked, at, zone, event["merchant_id"])
                found.append((labels, event, previous, seconds))
    return found


@cache
def corrected_histories() -> list[list[EventDocument]]:
    """Of all orders, once: an order's events are looked for among all events."""
    return [list(as_corrected(WORLD.history(order_id))) for order_id in WORLD.orders]


def corrections(asked: dict[str, Any], grant: Grant) -> int:
    return sum("reason" in event and is_asked_for(asked, grant, event) for event in WORLD.events)


def row_labels(asked: dict[str, Any], at: datetime, zone: ZoneInfo, merchant: str) -> dict[str, str]:
    labels = {}
    if "interval" in asked:
        local = at.astimezone(zone).replace(minute=0, second=0, microsecond=0)
        local = local.replace(hour=0) if asked["interval"] == "day" else local
        labels["local_start"] = local.isoformat()
        labels["start"] = format_time(local.astimezone(UTC))
    if "group_by" in asked:
        labels["merchant_id"] = merchant
    return labels


def row_set(rows: list[dict[str, Any]]) -> set[tuple[tuple[str, Any], ...]]:
    assert len({tuple(sorted(row.items())) for row in rows}) == len(rows)
    return {tuple(sorted(row.items())) for row in rows}


def at_rank(seconds: list[float], percent: int) -> float:
    """The smallest value that so many percent of all values do not exceed."""
    ordered = sorted(seconds)
    enough = percent * len(ordered)
    return next(value for value in ordered if bisect_right(ordered, value) * 100 >= enough)


@max_examples(120)
@given(asked=requests(), grant=GRANTS)
async def test_durations_are_those_of_all_events(
    query: QueryClient, asked: dict[str, Any], grant: Grant
) -> None:
    legs: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for labels, event, previous, seconds in changes(asked, grant):
        if previous is not None:
            leg = {"leg_from": previous, "leg_to": event["status"]}
            legs[tuple((labels | leg).items())].append(seconds)
    expected = [
        dict(key)
        | {"count": len(seconds), "negative": len([value for value in seconds if value < 0])}
        | {f"p{percent}": at_rank(seconds, percent) for percent in (50, 90, 99)}
        for key, seconds in legs.items()
    ]
    answer = await query.get("/v1/reports/durations", pairs_of(asked), token=token_of(grant))
    assert answer.status == 200, answer.body
    assert row_set(answer.json["rows"]) == row_set(expected)
    assert answer.json["corrections"] == corrections(asked, grant)


@max_examples(80)
@given(asked=requests(), grant=GRANTS)
async def test_status_counts_are_those_of_all_events(
    query: QueryClient, asked: dict[str, Any], grant: Grant
) -> None:
    entered: Counter[tuple[Any, ...]] = Counter()
    left: Counter[tuple[Any, ...]] = Counter()
    for labels, event, previous, _ in changes(asked, grant):
        entered[(*labels.items(), ("status", event["status"]))] += 1
        if previous is not None:
            left[(*labels.items(), ("status", previous))] += 1
    expected = [dict(key) | {"entered": entered[key], "left": left[key]} for key in entered | left]
    answer = await query.get("/v1/reports/status-counts", pairs_of(asked), token=token_of(grant))
    assert answer.status == 200, answer.body
    assert row_set(answer.json["rows"]) == row_set(expected)
    assert answer.json["corrections"] == corrections(asked, grant)
    assert answer.headers["corrections"] == str(corrections(asked, grant))


@max_examples(80)
@given(asked=requests(), grant=GRANTS)
async def test_punctuality_is_that_of_all_deliveries(
    query: QueryClient, asked: dict[str, Any], grant: Grant
) -> None:
    delays: dict[tuple[Any, ...], list[float | None]] = defaultdict(list)
    for labels, event, _, _ in changes(asked, grant):
        if event["status"] == "delivered":
            due_at = event.get("due_at")
            delay = due_at and (time_of(asked, event) - due_at).total_seconds()
            delays[tuple(labels.items())].append(delay)
    expected = []
    for key, told in delays.items():
        known = [delay for delay in told if delay is not None]
        late = [delay for delay in known if delay > 0]
        counts = {"on_time": len(known) - len(late), "late": len(late)}
        counts |= {"without_due_time": len(told) - len(known)}
        ranks = {f"p{percent}": at_rank(late, percent) if late else None for percent in (50, 90, 99)}
        expected.append(dict(key) | counts | ranks)
    answer = await query.get("/v1/reports/punctuality", pairs_of(asked), token=token_of(grant))
    assert answer.status == 200, answer.body
    assert row_set(answer.json["rows"]) == row_set(expected)
    assert answer.json["corrections"] == corrections(asked, grant)


async def test_the_statuses_that_mean_delivered_can_be_named(query: QueryClient) -> None:
    ever = {"from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z"}
    steps = (await query.get("/v1/reports/status-counts", ever, token=token())).json["rows"]
    entered = {row["status"]: row["entered"] for row in steps}
    for statuses in (["delivered"], ["cancelled"], ["cancelled", "delivered"]):
        pairs = [*ever.items(), *(("status", status) for status in statuses)]
        [row] = (await query.get("/v1/reports/punctuality", pairs, token=token())).json["rows"]
        counted = row["on_time"] + row["late"] + row["without_due_time"]
        assert counted == sum(entered[status] for status in statuses)
    refused = await query.get("/v1/reports/punctuality", ever | {"status": "lost"}, token=token())
    assert refused.json["errors"][0]["pointer"] == "/query/status"


@max_examples(40)
@given(
    asked=requests().map(lambda asked: {name: asked[name] for name in asked if name.startswith(("m", "g"))}),
    since=st.sampled_from(["created", "updated"]),
    grant=GRANTS,
)
async def test_open_orders_are_those_of_all_orders(
    query: QueryClient, asked: dict[str, Any], since: Since, grant: Grant
) -> None:
    answer = await query.get(
        "/v1/reports/open-orders", [*pairs_of(asked), ("since", since)], token=token_of(grant)
    )
    assert answer.status == 200, answer.body
    counts: Counter[tuple[Any, ...]] = Counter()
    for order in WORLD.orders.values():
        if not order["active"] or not reaches(grant, order["_id"], order["merchant_id"]):
            continue
        if order["merchant_id"] not in asked.get("merchant_id", [order["merchant_id"]]):
            continue
        start = order["created_at"] if since == "created" else order["updated_at"]
        days = (datetime.fromisoformat(answer.json["at"]) - start).days
        age = (30, None) if days >= 30 else (7, 30) if days >= 7 else (3, 7)
        labels = {"merchant_id": order["merchant_id"]} if "group_by" in asked else {}
        seconds = [None if bound is None else bound * 86400 for bound in age]
        row = {"status": order["status"], "age_from": seconds[0], "age_to": seconds[1]}
        counts[tuple((labels | row).items())] += 1
    assert row_set(answer.json["rows"]) == row_set([dict(key) | {"count": counts[key]} for key in counts])


@max_examples(40)
@given(
    asked=requests().map(lambda asked: {name: asked[name] for name in asked if name.startswith(("m", "g"))}),
    grant=GRANTS,
)
async def test_open_counts_are_those_of_all_orders(
    query: QueryClient, asked: dict[str, Any], grant: Grant
) -> None:
    answer = await query.get("/v1/reports/open-counts", pairs_of(asked), token=token_of(grant))
    assert answer.status == 200, answer.body
    counts: Counter[tuple[str, str]] = Counter()
    overdue: Counter[tuple[str, str]] = Counter()
    for order in WORLD.orders.values():
        if not order["active"] or not reaches(grant, order["_id"], order["merchant_id"]):
            continue
        if order["merchant_id"] in asked.get("merchant_id", [order["merchant_id"]]):
            key = order["merchant_id"] if "group_by" in asked else "", order["status"]
            counts[key] += 1
            overdue[key] += order.get("overdue", False)
    rows = [(row.get("merchant_id", ""), row["status"], row["count"]) for row in answer.json["rows"]]
    assert [row["overdue"] for row in answer.json["rows"]] == [overdue[row[:2]] for row in rows]
    assert rows == sorted(rows, key=lambda row: (row[0], list(DEFAULT_WORKFLOW.transitions).index(row[1])))
    assert {(merchant, status): count for merchant, status, count in rows} == counts


def refused_world() -> list[dict[str, Any]]:
    random = Random(5)
    return [
        {
            "order_id": random.choice([*list(WORLD.orders)[:9], "o-none"]),
            "update_id": f"refused-{number}",
            "outcome": "rejected" if number % 5 else "applied",
            "problem": {
                "slug": random.choice(["invalid-transition", "version-conflict"]),
                "detail": "",
                "members": {},
            }
            if number % 5
            else None,
            "merchant_id": random.choice([*MERCHANTS, None]),
            "source": {"type": "driver", "id": random.choice(["dora", "reader"])},
            "recorded_at": datetime.now(UTC).replace(microsecond=0)
            - timedelta(minutes=random.randrange(5000)),
        }
        for number in range(150)
    ]


REFUSED = refused_world()


@max_examples(80)
@given(asked=requests(), grant=GRANTS, minutes=st.tuples(st.integers(0, 5000), st.integers(0, 5000)))
async def test_refusals_are_those_of_all_outcomes(
    query: QueryClient, asked: dict[str, Any], grant: Grant, minutes: tuple[int, int]
) -> None:
    """The caller is `reader`: what it sent itself it sees."""
    end = max(update["recorded_at"] for update in REFUSED)
    span = [end - timedelta(minutes=back) for back in sorted(minutes, reverse=True)]
    asked = {name: asked[name] for name in asked if name != "clock"}
    asked |= {"from": format_time(span[0]), "to": format_time(span[1])}
    zone = ZoneInfo(asked.get("time_zone", "UTC"))
    counts: Counter[tuple[Any, ...]] = Counter()
    for update in REFUSED:
        merchant, at = update["merchant_id"], update["recorded_at"]
        everything = grant.every_merchant and grant.orders is None
        entitled = everything if merchant is None else reaches(grant, update["order_id"], merchant)
        if update["outcome"] != "rejected" or not span[0] <= at < span[1]:
            continue
        if not entitled and update["source"]["id"] != "reader":
            continue
        if merchant not in asked.get("merchant_id", [merchant]):
            continue
        labels: dict[str, Any] = row_labels(asked, at, zone, merchant or "")
        sender = update["source"]["id"] if sees_customer(grant) else ""
        source = {"source_type": "driver", "source_id": sender}
        counts[tuple((labels | {"reason": update["problem"]["slug"]} | source).items())] += 1
    answer = await query.get("/v1/reports/refusals", pairs_of(asked), token=token_of(grant))
    assert answer.status == 200, answer.body
    assert row_set(answer.json["rows"]) == row_set([dict(key) | {"count": counts[key]} for key in counts])


def test_the_random_histories_have_what_could_go_wrong() -> None:
    asked = {"from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z", "clock": "occurred"}
    found = changes(asked, Grant(merchants=frozenset({"*"})))
    assert len(found) > 400
    assert any(seconds < 0 for *_, seconds in found)
    assert any(event["status"] == event["previous_status"] for event in WORLD.events)
    assert corrections(asked, Grant(merchants=frozenset({"*"}))) > 60
    assert any("closing" in order for order in WORLD.orders.values())
    assert len(found) < sum(event["status"] != event["previous_status"] for event in WORLD.events)


ALL_TIME = {"from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z"}


async def test_the_rows_come_in_the_order_of_time_merchant_and_workflow(query: QueryClient) -> None:
    asked = ALL_TIME | {"interval": "day", "group_by": "merchant"}
    rows = (await query.get("/v1/reports/status-counts", asked, token=token())).json["rows"]
    table = ["created", "picked_up", "in_transit", "delivered", "cancelled"]
    places = [(row["start"], row["merchant_id"], table.index(row["status"])) for row in rows]
    assert len(rows) > 20
    assert places == sorted(places)


async def test_csv_has_the_rows_of_the_json(query: QueryClient) -> None:
    asked = ALL_TIME | {"interval": "day", "group_by": "merchant"}
    document = await query.get("/v1/reports/durations", asked, token=token())
    sheet = await query.get("/v1/reports/durations", asked, token=token(), headers={"Accept": "text/csv"})
    assert sheet.headers["content-type"].startswith("text/csv")
    assert list(csv.DictReader(io.StringIO(sheet.body.decode()))) == [
        {name: str(value) for name, value in row.items()} for row in document.json["rows"]
    ]


async def test_a_report_says_what_it_is_of(query: QueryClient) -> None:
    answer = await query.get("/v1/reports/durations", ALL_TIME, token=token())
    assert {name: value for name, value in answer.json.items() if name != "rows"} == {
        "from": "2026-01-01T00:00:00.000Z",
        "to": "2027-01-01T00:00:00.000Z",
        "interval": None,
        "time_zone": "UTC",
        "clock": "recorded",
        "as_of": "1970-01-01T00:00:00.000Z",
        "corrections": corrections(ALL_TIME, Grant(merchants=frozenset({"*"}))),
    }


async def test_the_whole_way_takes_as_long_as_its_legs_together(query: QueryClient) -> None:
    asked = ALL_TIME | {"per": "order"}
    document = (await query.get("/v1/reports/durations", asked, token=token())).json
    assert document["per"] == "order"
    expected = Counter(
        (event["status"], (event["recorded_at"] - event["created_at"]).total_seconds())
        for order_id in WORLD.orders
        for event in as_corrected(WORLD.history(order_id))
        if not event["active"]
    )
    for row in document["rows"]:
        taken = sorted(seconds for status, seconds in expected.elements() if status == row["leg_to"])
        assert row["leg_from"] == "created"
        assert (row["count"], row["p50"]) == (len(taken), taken[(len(taken) - 1) // 2])
    assert {row["leg_to"] for row in document["rows"]} == {status for status, _ in expected}


async def test_without_a_range_it_is_of_the_last_seven_days(query: QueryClient) -> None:
    answer = (await query.get("/v1/reports/status-counts", token=token())).json
    start, end = (datetime.fromisoformat(answer[name]) for name in ("from", "to"))
    assert end - start == timedelta(days=7)
    assert abs(datetime.now(UTC) - end) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("time_zone", "Europe/Atlantis"),
        ("time_zone", "../../etc/passwd"),
        ("time_zone", "Europe"),
        ("time_zone", "UTC\x00"),
        ("time_zone", "x" * 5000),
        ("time_zone", ""),
        ("interval", "week"),
        ("interval", "$day"),
        ("clock", "sundial"),
        ("group_by", "customer"),
        ("from", "yesterday"),
        ("from", "2026-03-01"),
        ("from", "0001-01-01T00:00:00Z"),
        ("to", "9" * 300),
        ("to", "2020-01-01T00:00:00Z"),
        ("merchant_id", '{"$gt": ""}'),
        ("start", "2026-01-01T00:00:00Z"),
    ],
)
@pytest.mark.parametrize("report", ["durations", "status-counts", "punctuality"])
async def test_a_value_that_means_nothing_is_refused(
    query: QueryClient, report: str, name: str, value: str
) -> None:
    asked = {"from": "2026-01-01T00:00:00Z", name: value}
    answer = await query.get(f"/v1/reports/{report}", asked, token=token())
    assert answer.slug == "validation-failed"
    [error] = answer.json["errors"]
    assert error["pointer"].removesuffix("/0") == f"/query/{name}"


async def test_a_range_of_too_many_hours_is_refused(query: QueryClient) -> None:
    asked = {"from": "2020-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z", "interval": "hour"}
    answer = await query.get("/v1/reports/durations", asked, token=token())
    assert answer.slug == "validation-failed"
    assert answer.json["errors"][0]["pointer"] == "/query/interval"


async def test_a_report_of_too_many_rows_is_refused(
    query: QueryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_figures, "MAX_ROWS", 3)
    answer = await query.get("/v1/reports/durations", ALL_TIME | {"interval": "day"}, token=token())
    assert answer.slug == "validation-failed"
    assert "rows" in answer.json["errors"][0]["message"]


async def test_a_report_that_takes_too_long_is_refused(
    query: QueryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_routes, "Deadline", lambda: Deadline(0.0))
    answer = await query.get("/v1/reports/durations", ALL_TIME, token=token())
    assert answer.slug == "validation-failed"
    assert "takes longer" in answer.json["errors"][0]["message"]


async def test_who_asks_for_too_many_reports_at_once_is_refused_and_others_are_served(
    mongodb_url: str, query: QueryClient
) -> None:
    greedy, modest = token(sub="greedy"), token(sub="modest")
    async with (
        tap_database(mongodb_url) as tap,
        running_query(tap.url, query.database.raw.name, keep=True, query_max_reports=4) as slow,
    ):

        def ask(bearer: str) -> "asyncio.Task[Answer]":
            return asyncio.create_task(slow.get("/v1/reports/open-orders", token=bearer))

        async with asyncio.timeout(30):
            assert (await ask(modest)).status == 200  # so that what is asked once is known
            tap.held["aggregate"] = tap.held["find"] = gate = asyncio.Event()
            asked = [ask(greedy) for _ in range(6)]
            refused = [await answer for answer in islice(asyncio.as_completed(asked), 4)]
            assert [answer.slug for answer in refused] == ["too-many-requests"] * 4
            served = [ask(modest), ask(modest)]
            gate.set()
            assert [(await answer).status for answer in served] == [200, 200]
            statuses = Counter([(await answer).status for answer in asked])
            assert statuses == {200: 2, 429: 4}
            assert (await ask(greedy)).status == 200


async def test_a_token_without_a_scope_to_read_gets_no_report(query: QueryClient) -> None:
    answer = await query.get("/v1/reports/durations", token=token(scope="orders:write"))
    assert answer.slug == "forbidden"


@pytest.mark.parametrize("clock", ["recorded", "occurred"])
@pytest.mark.parametrize(
    ("merchants", "orders"),
    [
        (None, None),
        (frozenset({"m-1"}), None),
        (None, frozenset({"o-1"})),
        (frozenset({"m-1"}), frozenset({"o-1"})),
    ],
)
async def test_every_read_is_served_by_an_index(
    query: QueryClient, clock: Clock, merchants: frozenset[str] | None, orders: frozenset[str] | None
) -> None:
    readable = ReadableOrders(merchants, orders)
    for wanted in (changes_within(readable, START, END, clock).orders, open_orders(readable)):
        plan = str(await query.database.orders.find(wanted.stages[0]).explain())
        assert "IXSCAN" in plan
        assert "COLLSCAN" not in plan
    histories = query.database.order_events.find({"order_id": {"$in": ["o-1", "o-2"]}})
    assert "order_version" in str(await histories.explain())
    refused = query.database.updates.find({"recorded_at": {"$gte": START, "$lt": END}})
    assert "ttl" in str(await refused.explain())


@pytest.mark.parametrize("merchants", [None, frozenset({"m-1"}), frozenset(MERCHANTS)])
@max_examples(25)
@given(start=TIMES, end=TIMES, width=st.sampled_from([1, 7, 40]))
async def test_the_log_gives_each_order_that_changed_in_the_range_once(
    query: QueryClient, merchants: frozenset[str] | None, start: datetime, end: datetime, width: int
) -> None:
    changes = Changes(ReadableOrders(merchants, None), start, end)
    head = Position("", tuple(WORLD.seqs))
    spans = await positions_between(query.database, head, start, end)
    given = histories_of_log(query.database, changes, spans, Deadline(), window=width)
    taken = [history async for history in given]
    found = [history[0]["order_id"] for history in taken]
    assert len(found) == len(set(found))
    changed = {
        event["order_id"]
        for event in WORLD.events
        if start <= event["recorded_at"] < end and (merchants is None or event["merchant_id"] in merchants)
    }
    assert changed <= set(found)
    assert all(len(history) == len(WORLD.history(history[0]["order_id"])) for history in taken)


async def test_a_report_of_a_short_range_reads_what_lies_in_it_whatever_is_older(
    mongodb_url: str, query: QueryClient
) -> None:
    last = max(event["recorded_at"] for event in WORLD.events)
    async with (
        tap_database(mongodb_url) as tap,
        open_database(tap.url, query.database.raw.name) as database,
    ):
        changes = changes_within(ReadableOrders(None, None), last, last + timedelta(minutes=1), "recorded")
        await read_histories(database, PARTITIONS, changes, Deadline(), lambda _: None)
    assert not any("orders" in (asked.get("find"), asked.get("aggregate")) for asked in tap.commands)
    looked_at = [
        len(asked["filter"]["_id"]["$in"])
        for asked in tap.commands
        if asked.get("find") == "order_events" and "created_at" in asked["projection"]
    ]
    margin = [event for event in WORLD.events if event["recorded_at"] >= last - MAX_DISORDER]
    assert sum(looked_at) <= len(margin) < len(WORLD.events) / 10


async def test_what_cannot_be_had_in_the_asked_form_is_refused(query: QueryClient) -> None:
    answer = await query.get("/v1/reports/open-orders", token=token(), headers={"Accept": "image/png"})
    assert answer.slug == "not-acceptable"


@pytest.mark.parametrize(
    ("seconds", "age"), [(-5, (0, 3600)), (3599, (0, 3600)), (3600, (3600, 14400)), (10**9, (2592000, None))]
)
async def test_an_age_is_in_the_class_that_starts_with_it(seconds: int, age: tuple[int, int | None]) -> None:
    order = next(order for order in WORLD.orders.values() if order["active"])
    figures = OpenOrders(DEFAULT_WORKFLOW, order["created_at"] + timedelta(seconds=seconds), "created")
    figures.add(order, by_merchant=False)
    assert [cells[1:3] for _, _, cells in figures.rows()] == [list(age)]


async def test_an_order_that_is_read_twice_is_counted_once() -> None:
    figures = OpenOrders(DEFAULT_WORKFLOW, END, "created")
    order = next(order for order in WORLD.orders.values() if order["active"])
    for _ in range(2):
        figures.add(order, by_merchant=False)
    assert [cells[-1] for _, _, cells in figures.rows()] == [1]


async def test_the_documentation_has_an_example_of_each_report_in_both_forms(query: QueryClient) -> None:
    paths = (await query.get("/openapi.json")).json["paths"]
    described = {path: paths[path]["get"] for path in paths if path.startswith("/v1/reports/")}
    assert len(described) == 7
    for path, operation in described.items():
        content = operation["responses"]["200"]["content"]
        answer = await query.get(path, token=token())
        example = content["application/json"]["example"]
        assert answer.json.keys() == example.keys(), path
        header = content["text/csv"]["example"].splitlines()[0]
        assert header.split(",") == list(example["rows"][0])
        asked = [("interval", "day")] if "interval" in example else []
        sheet = await query.get(path, asked, token=token(), headers={"Accept": "text/csv"})
        assert sheet.body.decode().splitlines()[0] == header


@max_examples(30)
@given(
    asked=requests().map(lambda asked: {n: asked[n] for n in asked if n in ("merchant_id", "from", "to")}),
    grant=GRANTS,
)
async def test_created_and_closed_are_what_the_histories_say(
    query: QueryClient, asked: dict[str, Any], grant: Grant
) -> None:
    pairs = pairs_of(asked)
    answer = await query.get("/v1/reports/created-and-closed", pairs, token=token_of(grant))
    assert answer.status == 200, answer.body
    histories = await query.get("/v1/reports/status-counts", pairs, token=token_of(grant))
    entered = {row["status"]: row["entered"] for row in histories.json["rows"]}
    statuses = ("created", "delivered", "cancelled")
    assert answer.json["rows"] == [{"status": s, "entered": entered.get(s, 0)} for s in statuses]
    assert answer.json["corrections"] == histories.json["corrections"]


async def test_boards_that_ask_at_once_share_a_count_that_says_up_to_when_it_is(query: QueryClient) -> None:
    asked = [("from", format_time(START))]
    path = "/v1/reports/created-and-closed"
    answers = await asyncio.gather(*(query.get(path, asked, token=token()) for _ in range(8)))
    told = {(answer.json["to"], answer.json["as_of"], str(answer.json["rows"])) for answer in answers}
    assert len(told) < len(answers)
    later = await query.get(path, asked, token=token())
    assert later.json["to"] > max(to for to, _, _ in told)


@pytest.mark.parametrize("status", ["created", "delivered"])
async def test_created_and_closed_are_counted_by_an_index(query: QueryClient, status: str) -> None:
    for grant in (Grant(merchants=frozenset({"*"})), Grant(merchants=frozenset({"m-1"}))):
        stages = dict(counted(DEFAULT_WORKFLOW, readable_orders(grant), START, END))[status]
        command = {"aggregate": "orders", "pipeline": [{"$match": stage} for stage in stages], "cursor": {}}
        explained = await query.database.raw.command({"explain": command, "verbosity": "queryPlanner"})
        plan = repr(explained["queryPlanner"]["winningPlan"])
        assert "IXSCAN" in plan
        assert "COLLSCAN" not in plan


@pytest.mark.parametrize("grant", [Grant(merchants=frozenset({"*"})), Grant(merchants=frozenset({"m-1"}))])
async def test_orders_that_changed_after_their_end_and_corrections_are_counted_by_an_index(
    query: QueryClient, grant: Grant
) -> None:
    readable = readable_orders(grant)
    asked = [("orders", stages) for _, stages in closing_stages(readable, START, END)]
    asked.append(("order_events", correction_stages(readable, START, END)))
    for collection, stages in asked:
        command = {"aggregate": collection, "pipeline": [{"$match": one} for one in stages], "cursor": {}}
        explained = await query.database.raw.command({"explain": command, "verbosity": "queryPlanner"})
        plan = repr(explained["queryPlanner"]["winningPlan"])
        assert "IXSCAN" in plan
        assert "COLLSCAN" not in plan
