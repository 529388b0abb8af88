"""Exports as Parquet: what the other forms hold, in types of their own, and only where it is installed."""

import sys
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

import orjson
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from list_oracle import GRANTS, SORTS, WORLD, Pairs, filters
from query_stack import START, QueryClient, World, running_query, store, token, token_of

from property_examples import max_examples
from tracking_query.orders.parquet_form import ParquetForm
from tracking_shared.contracts.access import Grant

NDJSON = {"Accept": "application/x-ndjson"}
PARQUET = {"Accept": "application/vnd.apache.parquet"}


@pytest.fixture(scope="module")
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        await store(client.database, WORLD)
        yield client


def as_row(order: dict[str, Any]) -> dict[str, Any]:
    """An order of NDJSON under the columns of the table."""
    row = {name: order[name] for name in ("order_id", "merchant_id", "reference")}
    if "customer" in order:
        customer = order["customer"]
        row |= {"customer_name": customer["name"], "customer_contact_ref": customer["contact_ref"]}
    row |= {name: order[name] for name in ("status", "version", "active")}
    times = ("created_at", "updated_at", "due_at", "eta")
    row |= {name: order[name] and datetime.fromisoformat(order[name]) for name in times}
    row["overdue"] = order["overdue"]
    row |= {f"source_{name}": value for name, value in order["source"].items()}
    return row | {"metadata": order["metadata"]}


def rows(table: pa.Table) -> list[dict[str, Any]]:
    return [row | {"metadata": orjson.loads(row["metadata"])} for row in table.to_pylist()]


@max_examples(30)
@given(pairs=filters(), sort=st.sampled_from(SORTS), grant=GRANTS)
async def test_a_parquet_file_holds_what_the_ndjson_holds(
    query: QueryClient, pairs: Pairs, sort: str, grant: Grant
) -> None:
    params, caller = [*pairs, ("sort", sort)], token_of(grant)
    as_lines = await query.get("/v1/orders", params, token=caller, headers=NDJSON)
    as_table = await query.get("/v1/orders", params, token=caller, headers=PARQUET)
    assert as_table.status == as_lines.status
    if as_lines.status == 200:
        wanted = [as_row(orjson.loads(line)) for line in as_lines.body.splitlines()]
        assert rows(pq.read_table(BytesIO(as_table.body))) == wanted


async def test_a_parquet_file_says_what_it_is(query: QueryClient) -> None:
    answer = await query.get("/v1/orders", token=token(), headers=PARQUET | {"Accept-Encoding": "gzip"})
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    assert answer.headers["content-disposition"].endswith('Z.parquet"')
    assert "content-encoding" not in answer.headers
    schema = pq.read_schema(BytesIO(answer.body))
    assert schema.field("created_at").type == schema.field("updated_at").type == pa.timestamp("ms", tz="UTC")
    assert schema.field("version").type == pa.int64()
    assert schema.field("active").type == pa.bool_()
    assert {schema.field(name).type for name in ("order_id", "status", "metadata")} == {pa.string()}
    assert schema.field("due_at").type == schema.field("eta").type == pa.timestamp("ms", tz="UTC")
    assert schema.field("overdue").type == pa.bool_()
    optional = ["reference", "customer_name", "customer_contact_ref", "due_at", "eta"]
    assert [field.name for field in schema if field.nullable] == optional


async def test_an_empty_list_is_a_file_with_columns(query: QueryClient) -> None:
    answer = await query.get("/v1/orders", {"merchant_id": "m-none"}, token=token(), headers=PARQUET)
    table = pq.read_table(BytesIO(answer.body))
    assert (table.num_rows, table.column_names[0]) == (0, "order_id")


async def test_a_formula_is_left_as_it_is(query: QueryClient) -> None:
    answer = await query.get("/v1/orders", token=token(), headers=PARQUET)
    contacts = pq.read_table(BytesIO(answer.body)).column("customer_contact_ref").to_pylist()
    assert contacts
    assert all(contact.startswith("+49") for contact in contacts)


def test_row_groups_are_passed_on_as_they_fill() -> None:
    world = World()
    for index in range(6000):
        created = {"merchant_id": "m-1", "customer": {"name": "n" * 200, "contact_ref": f"c-{index}"}}
        world.apply(f"o-{index}", "created", START + timedelta(milliseconds=index), created)
    orders = list(world.orders.values())
    for order in orders:
        order["metadata"] = {"padding": "x" * 1500}
    form = ParquetForm(with_customer=True)
    pieces = [form.start(), *(form.chunk(orders[start : start + 500]) for start in range(0, 6000, 500))]
    early = sum(len(piece) > 0 for piece in pieces[1:])
    pieces.append(form.end())
    file = pq.ParquetFile(BytesIO(b"".join(pieces)))
    assert early >= 2
    assert file.num_row_groups == early + 1
    table = file.read()
    assert table.column("order_id").to_pylist() == list(world.orders)
    assert table.column("updated_at").to_pylist() == [order["updated_at"] for order in orders]


async def test_without_the_package_there_is_no_parquet(
    mongodb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed
    async with running_query(mongodb_url) as query:
        refused = await query.get("/v1/orders", token=token(), headers=PARQUET)
        assert (refused.status, refused.slug) == (406, "not-acceptable")
        assert "application/vnd.apache.parquet needs a package that is not" in refused.json["detail"]
        assert PARQUET["Accept"] not in refused.json["offered"]
        second = {"Accept": "application/vnd.apache.parquet, text/csv;q=0.5"}
        answer = await query.get("/v1/orders", token=token(), headers=second)
        assert answer.headers["content-type"].startswith("text/csv")
