"""How a load cuts records into batches and counts what became of them, and what it says at the end."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from property_examples import max_examples
from tracking.load.header import Header
from tracking.load.records import Fault, Location, Record, unreadable
from tracking.load.sender import BATCH_BYTES, BATCH_RECORDS, WINDOW_RECORDS, Window, send
from tracking.load.summary import MAX_SHOWN, Summary, describe
from tracking_client.batch_client import is_decided
from tracking_client.errors import BatchRefused
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW


def _record(order_id: str, line: int = 0, padding: int = 0, *, creates: bool = False) -> Record:
    operation = {"op": "update", "order_id": order_id, "status": "picked_up", "update_id": f"u-{line}"}
    body = orjson.dumps(operation | {"metadata": {"padding": "x" * padding}})
    return Record(Location("a.csv", line), body, order_id, creates)


class Ingest:
    """Applies everything, and remembers the batches; answers `status` if that is another than 200."""

    def __init__(self) -> None:
        self.batches: list[list[dict[str, Any]]] = []
        self.bytes: list[int] = []
        self.status = 200
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        operations = orjson.loads(body)
        self.batches.append(operations)
        self.bytes.append(len(body))
        results = [{"update_id": each["update_id"], "outcome": "applied"} for each in operations]
        return web.json_response({"results": results}, status=self.status)


@pytest.fixture
async def ingest() -> AsyncIterator[Ingest]:
    """A server of its own for each test, at `url`."""
    ingest = Ingest()
    app = web.Application(client_max_size=2**21)
    app.router.add_post("/v1/batch", ingest.handle)
    async with TestServer(app) as running:
        ingest.url = str(running.make_url("/"))
        yield ingest


async def _send(ingest: Ingest, orders: list[list[Record]], lanes: int = 2) -> Summary:
    summary = Summary()
    seen: list[int] = []
    await send(
        orders,
        ingest_url=ingest.url,
        token="token",
        lanes=lanes,
        workflow=DEFAULT_WORKFLOW,
        summary=summary,
        on_decided=lambda: seen.append(summary.decided),
    )
    assert seen == sorted(seen)
    assert seen[-1] == summary.decided
    return summary


async def test_a_batch_holds_an_order_once_and_an_order_keeps_its_sequence(ingest: Ingest) -> None:
    orders = [[_record(f"o-{n}", step) for step in range(n % 4)] for n in range(700)]

    summary = await _send(ingest, orders)

    assert summary.applied == sum(map(len, orders))
    sent: dict[str, list[str]] = {}
    for batch in ingest.batches:
        assert len(batch) <= BATCH_RECORDS
        assert max(Counter(each["order_id"] for each in batch).values()) == 1
        for each in batch:
            sent.setdefault(each["order_id"], []).append(each["update_id"])
    assert sent == {f"o-{n}": [f"u-{step}" for step in range(n % 4)] for n in range(700) if n % 4}


async def test_a_batch_is_bounded_by_bytes_and_a_larger_record_goes_alone(ingest: Ingest) -> None:
    orders = [[_record(f"o-{n}", padding=60_000)] for n in range(30)]
    orders.append([_record("large", padding=BATCH_BYTES)])

    await _send(ingest, orders, lanes=1)

    assert [len(batch) for batch in ingest.batches] == [14, 14, 2, 1]
    assert max(ingest.bytes[:-1]) <= BATCH_BYTES + 2


async def test_more_orders_than_the_window_holds_come_through(ingest: Ingest) -> None:
    orders = [[_record(f"o-{n}")] for n in range(WINDOW_RECORDS + 10)]
    orders.append([_record("long", step) for step in range(5)])
    assert (await _send(ingest, orders, lanes=1)).applied == WINDOW_RECORDS + 15


async def test_a_refused_batch_ends_the_load(ingest: Ingest) -> None:
    ingest.status = 401
    with pytest.raises(BatchRefused, match="answers 401"):
        await _send(ingest, [[_record(f"o-{n}")] for n in range(WINDOW_RECORDS * 3)])


@max_examples(30)
@given(st.lists(st.integers(1, 30), max_size=20))
async def test_what_is_in_the_window_at_once_is_bounded(sizes: list[int]) -> None:
    window, inside = Window(10), 0

    async def pass_through(size: int) -> None:
        nonlocal inside
        await window.enter(size)
        inside += min(size, 10)
        assert inside <= 10
        await asyncio.sleep(0)
        inside -= min(size, 10)
        await window.leave(size)

    await asyncio.gather(*map(pass_through, sizes))


def _rejected(slug: str, status: int, **members: Any) -> dict[str, Any]:
    problem = {"type": f"/problems/{slug}", "status": status, "title": "No", "detail": "Not so."} | members
    return {"outcome": "rejected", "problem": problem}


def test_outages_and_unknown_outcomes_are_not_decided() -> None:
    assert is_decided({"outcome": "applied"})
    assert is_decided({"outcome": "duplicate"})
    assert is_decided(_rejected("invalid-transition", 409))
    assert not is_decided({"outcome": "accepted"})
    assert not is_decided(_rejected("broker-unavailable", 503))
    assert not is_decided(_rejected("too-many-requests", 429))


def test_the_summary_counts_everything_and_shows_the_first_by_their_place() -> None:
    summary = Summary()
    summary.add_result(_record("o-1", 2, creates=True), {"outcome": "applied"})
    summary.add_result(_record("o-1", 3), {"outcome": "duplicate"})
    assert summary.is_complete
    for line in reversed(range(4, 34)):
        summary.add_result(_record("o-1", line), _rejected("invalid-transition", 409))
    summary.add_fault(Record(Location("a.csv", 1), fault=Fault("not JSON")))

    text = describe(summary)

    assert not summary.is_complete
    assert "orders 1, updates 31: applied 1, duplicate 1, rejected 30 (30 invalid-transition)" in text
    assert "not sent: 1 (1 not JSON)" in text
    assert [line for _, line, _ in summary.shown] == [1, *range(4, 4 + MAX_SHOWN - 1)]
    assert "  a.csv:4: Not so.\n" in text
    assert "  and 11 more\n" in text


def test_what_was_read_and_is_not_decided_is_counted() -> None:
    summary = Summary(undecided=3)
    assert not summary.is_complete
    assert "not decided, as the load ended before: 3; load the same files again" in describe(summary)


def test_a_broken_rule_is_told_with_the_files_column_and_without_a_librarys_manners() -> None:
    errors = [
        {"pointer": "/order_id", "message": "String should match pattern '^[A-Z]$'"},
        {"pointer": "/occurred_at", "message": "Value error, must be a time"},
        {"pointer": "/customer", "message": "Field required"},
    ]
    summary = Summary(headers={0: Header(["Order No", "Kunde"], ["order_id", "customer_name"])})
    body = orjson.dumps({"order_id": "#1\u202e", "occurred_at": "soon"})

    summary.add_result(Record(Location("a.csv", 2), body), _rejected("validation-failed", 422, errors=errors))

    [(_, _, told)] = summary.shown
    assert told == (
        'a.csv:2: Order No "#1\\u202e": must be 1 to 64 of letters, digits and . _ : -, a letter or digit'
        " first;"
        ' occurred_at "soon": must be a time; Kunde: is missing'
    )


TERMINAL_ACTS = {chr(code) for code in (*range(32), *range(127, 160), 0x200E, 0x202E, 0x2028, 0x2066)}


@given(st.text(), st.text(), st.text())
def test_nothing_of_a_file_reaches_the_terminal_unescaped(column: str, value: str, detail: str) -> None:
    told = unreadable("not so", column, value, detail).fault.line()
    assert told.isprintable() or not set(told) & {
        chr(n) for n in (*range(32), *range(127, 160), 0x202E, 0x2028)
    }
