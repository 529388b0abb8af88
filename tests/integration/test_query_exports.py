"""Exports: the whole list as a file, whatever its size, and never a part that looks like the whole."""

import asyncio
import codecs
import csv
import gzip
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, nullcontext
from datetime import timedelta
from io import StringIO
from typing import Any

import orjson
import pytest
from aiohttp import ClientPayloadError
from hypothesis import example, given
from hypothesis import strategies as st
from list_oracle import (
    CLOSED_BEFORE_A_CHECKPOINT,
    CLOSED_FROM_A_CHANGE,
    EVERYTHING,
    GRANTS,
    SORTS,
    WORLD,
    Pairs,
    expected,
    filters,
)
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from query_stack import MERCHANTS, START, QueryClient, World, running_query, store, token, token_of

from callers import eventually
from property_examples import max_examples
from tracking.devstack.database_node import DatabaseNode
from tracking_query.orders.export_forms import CsvForm
from tracking_query.orders.exports import Exports
from tracking_query.orders.list_query import ListParameters, list_query
from tracking_query.orders.list_reader import CHUNK_ORDERS, opened_list
from tracking_shared.contracts.access import Grant, ReadableOrders, sees_customer
from tracking_shared.policy.limits import ConcurrencyLimit, Holder
from tracking_shared.storage.database import Database

CSV, NDJSON = {"Accept": "text/csv"}, {"Accept": "application/x-ndjson"}
LARGE = NDJSON | {"Accept-Encoding": "identity"}


@pytest.fixture(scope="module")
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        await store(client.database, WORLD)
        yield client


def many_orders(number: int, *, padding: int = 10) -> World:
    world = World()
    for index in range(number):
        customer = {"name": "n" * padding, "contact_ref": "c"}
        created = {"merchant_id": MERCHANTS[index % 5], "customer": customer}
        world.apply(f"o-{index}", "created", START + timedelta(seconds=index), created)
    return world


def lines(body: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in body.splitlines()]


def table(body: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(body.decode(), newline=""), strict=True))


def as_row(order: dict[str, Any]) -> dict[str, str]:
    """An order in the words of the CSV."""

    def safe(text: str) -> str:
        return f"'{text}" if text.startswith("+") else text

    row = {
        "order_id": order["order_id"],
        "merchant_id": order["merchant_id"],
        "reference": order["reference"] or "",
    }
    if "customer" in order:
        customer = order["customer"]
        row |= {
            "customer_name": customer["name"],
            "customer_contact_ref": safe(customer["contact_ref"]),
        }
    return row | {
        "status": order["status"],
        "version": str(order["version"]),
        "active": "true" if order["active"] else "false",
        "created_at": order["created_at"],
        "updated_at": order["updated_at"],
        "due_at": order["due_at"] or "",
        "eta": order["eta"] or "",
        "overdue": "true" if order["overdue"] else "false",
        **{f"source_{name}": value for name, value in order["source"].items()},
        "metadata": orjson.dumps(order["metadata"]).decode(),
    }


@example(pairs=CLOSED_FROM_A_CHANGE, sort=SORTS[0], grant=EVERYTHING)
@example(pairs=CLOSED_BEFORE_A_CHECKPOINT, sort=SORTS[0], grant=EVERYTHING)
@max_examples(60)
@given(pairs=filters(), sort=st.sampled_from(SORTS), grant=GRANTS)
async def test_an_export_holds_what_a_plain_filter_finds(
    query: QueryClient, pairs: Pairs, sort: str, grant: Grant
) -> None:
    params, caller = [*pairs, ("sort", sort)], token_of(grant)
    as_lines = await query.get("/v1/orders", params, token=caller, headers=NDJSON)
    as_table = await query.get("/v1/orders", params, token=caller, headers=CSV)
    if any(name == "customer_ref" for name, _ in pairs) and not sees_customer(grant):
        assert as_lines.slug == as_table.slug == "forbidden"
        return
    wanted = expected(WORLD, pairs, grant, sort)
    assert lines(as_lines.body) == wanted
    assert table(as_table.body) == [as_row(order) for order in wanted]


async def test_a_tracking_link_exports_no_customer(query: QueryClient) -> None:
    caller = token(merchants=[], orders=["o-1", "o-2"])
    as_table = await query.get("/v1/orders", token=caller, headers=CSV)
    assert b"customer" not in as_table.body
    assert len(table(as_table.body)) == 2
    assert b"customer" not in (await query.get("/v1/orders", token=caller, headers=NDJSON)).body


async def test_a_file_says_what_it_is(query: QueryClient) -> None:
    answer = await query.get("/v1/orders", {"merchant_id": "m-none"}, token=token(), headers=CSV)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["content-disposition"].startswith('attachment; filename="orders-20')
    assert answer.headers["content-disposition"].endswith('Z.csv"')
    assert answer.headers["vary"] == "Accept, Accept-Encoding"
    assert answer.body.endswith(b",source_type,source_id,metadata\r\n")
    empty = await query.get("/v1/orders", {"merchant_id": "m-none"}, token=token(), headers=NDJSON)
    assert (empty.status, empty.body) == (200, b"")
    assert empty.headers["content-type"] == "application/x-ndjson"


async def test_gzip_is_used_when_asked_for(query: QueryClient) -> None:
    plain = await query.get("/v1/orders", token=token(), headers=CSV | {"Accept-Encoding": "identity"})
    packed = await query.get(
        "/v1/orders", token=token(), headers=CSV | {"Accept-Encoding": "br, gzip"}, raw=True
    )
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) < len(plain.body) / 3
    assert gzip.decompress(packed.body) == plain.body


@pytest.mark.parametrize("accept", ["text/html", "text/csv;q=0", "application/xml, image/*"])
async def test_what_is_not_offered_is_refused(query: QueryClient, accept: str) -> None:
    answer = await query.get("/v1/orders", token=token(), headers={"Accept": accept})
    assert (answer.status, answer.slug) == (406, "not-acceptable")
    assert "text/csv" in answer.json["offered"]


async def test_a_csv_for_excel_begins_with_a_byte_order_mark(query: QueryClient) -> None:
    plain = await query.get("/v1/orders", token=token(), headers=CSV)
    marked = await query.get("/v1/orders", {"bom": "true"}, token=token(), headers=CSV)
    assert marked.body == codecs.BOM_UTF8 + plain.body
    unmarked = await query.get("/v1/orders", {"bom": "false"}, token=token(), headers=CSV)
    assert unmarked.body == plain.body


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
async def test_only_csv_has_a_byte_order_mark(query: QueryClient, accept: str) -> None:
    answer = await query.get("/v1/orders", {"bom": "true"}, token=token(), headers={"Accept": accept})
    assert (answer.status, answer.slug) == (422, "validation-failed")
    assert [error["pointer"] for error in answer.json["errors"]] == ["/query/bom"]


@pytest.mark.parametrize("name", ["limit", "cursor"])
async def test_an_export_has_no_pages(query: QueryClient, name: str) -> None:
    answer = await query.get("/v1/orders", {name: "5"}, token=token(), headers=CSV)
    assert (answer.status, answer.slug) == (422, "validation-failed")
    assert [error["pointer"] for error in answer.json["errors"]] == [f"/query/{name}"]


async def test_an_export_shows_one_moment(mongodb_url: str) -> None:
    world = many_orders(3 * CHUNK_ORDERS)
    parameters = ListParameters(sort="updated_at")
    async with running_query(mongodb_url) as query:
        await store(query.database, world)
        answer = await Exports(query.database).answer(
            list_query(parameters, ReadableOrders(None, None)),
            CsvForm(with_customer=False),
            nullcontext(),
            gzip=False,
        )
        later = START + timedelta(days=9)
        for order_id in ("o-0", f"o-{CHUNK_ORDERS + 5}"):
            await query.database.orders.update_one({"_id": order_id}, {"$set": {"updated_at": later}})
        found = table(b"".join(await sent_by(answer)))
    assert [row["order_id"] for row in found] == list(world.orders)


class Asked(CommandListener):
    """The commands that read orders."""

    def __init__(self) -> None:
        self.commands: list[Mapping[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        if "orders" in (event.command.get("find"), event.command.get("aggregate")):
            self.commands.append(event.command)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


@pytest.mark.parametrize(
    "readable", [ReadableOrders(None, None), ReadableOrders(frozenset({"m-1"}), frozenset({"o-1"}))]
)
async def test_an_export_asks_the_database_for_one_moment(
    mongodb_url: str, database_name: str, readable: ReadableOrders
) -> None:
    # The embedded database reads a sorted list at once, so there the test above finds no difference.
    asked = Asked()
    async with (
        AsyncMongoClient[Any](mongodb_url, event_listeners=[asked]) as client,
        opened_list(Database(client, database_name), list_query(ListParameters(), readable)) as orders,
    ):
        assert await orders.next() == []
    assert [command["readConcern"]["level"] for command in asked.commands] == ["snapshot"]


async def sent_by(answer: Any) -> list[bytes]:
    """The body, as the server gets it."""
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    await answer({"type": "http"}, asyncio.Event().wait, send)
    return sent


async def test_memory_does_not_grow_with_the_export(mongodb_url: str) -> None:
    """Ten times the orders, and about the same peak."""

    async def peak(query: QueryClient, merchants: list[str]) -> int:
        parameters = ListParameters(merchant_id=merchants)
        answer = await Exports(query.database).answer(
            list_query(parameters, ReadableOrders(frozenset(merchants), None)),
            CsvForm(with_customer=True),
            nullcontext(),
            gzip=True,
        )

        async def forget(message: Any) -> None:
            await asyncio.sleep(0)

        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        await answer({"type": "http"}, asyncio.Event().wait, forget)
        return tracemalloc.get_traced_memory()[1] - before

    world = many_orders(10_000, padding=150)
    async with running_query(mongodb_url) as query:
        await store(query.database, world)
        del world
        tracemalloc.start()
        try:
            small, large = await peak(query, MERCHANTS[:1]), await peak(query, MERCHANTS)
        finally:
            tracemalloc.stop()
    assert large < 1.5 * small


async def test_a_lost_database_cuts_the_file_off(
    start_database: Callable[[], Awaitable[DatabaseNode]],
) -> None:
    node = await start_database()
    world = many_orders(20 * CHUNK_ORDERS, padding=199)
    for order in world.orders.values():
        order["metadata"] = {"padding": "x" * 3500}
    async with running_query(node.url, keep=True) as query:
        await store(query.database, world)
        async with query.opened("/v1/orders", token=token(), headers=LARGE, raw=True) as response:
            assert response.status == 200
            await response.content.readexactly(10)
            await node.kill()
            with pytest.raises(ClientPayloadError):
                await response.read()


async def test_a_lost_database_before_the_first_byte_is_a_problem(
    start_database: Callable[[], Awaitable[DatabaseNode]],
) -> None:
    node = await start_database()
    async with running_query(node.url, keep=True) as query:
        await store(query.database, many_orders(3))
        assert (await query.get("/v1/orders", token=token(), headers=CSV)).status == 200
        await node.kill()
        answer = await query.get("/v1/orders", token=token(), headers=CSV)
    assert (answer.status, answer.slug) == (503, "database-unavailable")
    assert "retry-after" in answer.headers


def large_orders(number: int) -> World:
    """More than the kernel keeps for a client that does not read."""
    world = many_orders(number, padding=199)
    for order in world.orders.values():
        order["metadata"] = {"padding": "x" * 3500}
    return world


async def test_who_takes_too_many_exports_is_refused_others_are_served_and_those_who_leave_make_room(
    mongodb_url: str,
) -> None:
    greedy, modest = token(sub="greedy", merchants=["m-0"]), token(sub="modest")
    colleagues = [token(sub=f"colleague-{number}", merchants=["m-0"]) for number in range(3)]
    async with running_query(mongodb_url, query_max_exports=5) as query:
        await store(query.database, large_orders(10_000))

        async def begin(bearer: str) -> None:
            opened = query.opened("/v1/orders", token=bearer, headers=LARGE, raw=True)
            response = await stalled.enter_async_context(opened)
            assert response.status == 200

        async def refused(bearer: str) -> tuple[int, str]:
            answer = await query.get("/v1/orders", token=bearer, headers=NDJSON)
            assert int(answer.headers["retry-after"]) > 0
            return answer.status, answer.slug

        async with AsyncExitStack() as stalled:
            for bearer in (greedy, greedy):
                await begin(bearer)
            assert await refused(greedy) == (429, "too-many-requests")  # half of all is this caller's
            await begin(colleagues[0])
            assert await refused(colleagues[1]) == (429, "too-many-requests")  # and a bit more its merchant's
            await begin(modest)
            await begin(modest)
            assert await refused(modest) == (429, "too-many-requests")
            assert await refused(token(sub="another")) == (503, "overloaded")
            assert (await query.get("/v1/orders", token=greedy)).status == 200
            metrics = (await query.get("/metrics")).body.decode()
            for exceeded in ("principal", "merchant", "all"):
                assert f'tracking_refused_total{{exceeded="{exceeded}",limit="exports"}}' in metrics

        async def all_ended() -> bool:
            return b"tracking_query_exports 0.0" in (await query.get("/metrics")).body

        await eventually(all_ended)
        for bearer in (greedy, greedy, modest):
            assert (await query.get("/v1/orders", token=bearer, headers=NDJSON)).status == 200


async def test_an_export_gives_its_slot_back_at_its_end(query: QueryClient) -> None:
    exports, limit = Exports(query.database), ConcurrencyLimit("exports", 1, 1, 1)
    for _ in range(2):
        answer = await exports.answer(
            list_query(ListParameters(), ReadableOrders(None, None)),
            CsvForm(with_customer=False),
            limit.held(Holder("ann", None)),
            gzip=False,
        )
        assert limit.in_use == 1
        await sent_by(answer)
        assert limit.in_use == 0


async def test_a_client_that_takes_nothing_loses_its_export(query: QueryClient) -> None:
    exports = Exports(query.database, stall_seconds=0.05)
    answer = await exports.answer(
        list_query(ListParameters(), ReadableOrders(None, None)),
        CsvForm(with_customer=False),
        nullcontext(),
        gzip=False,
    )
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 2:
            await asyncio.Event().wait()

    await answer({"type": "http"}, asyncio.Event().wait, send)
    assert all(message.get("more_body", True) for message in sent)
