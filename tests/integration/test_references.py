"""A merchant's own numbers: the same order on every path, nobody's else, and found by them."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import orjson
import pytest

from answers import Answer
from callers import eventually, token
from fixtures import Spine
from openapi_checks import Service
from raw_http import RawConnection
from service_starts import service_starter
from tracking_shared.contracts.references import referenced_order_id

REFERENCES = ["WH/OUT/00012", "#1001", "ORD 2024/17", "ä/ö", "..", "a%2Fb", "50%", "?q=1&x", "+1", "日本/7"]
CUSTOMER = {"name": "Ada", "contact_ref": "crm-1"}


@dataclass(frozen=True)
class Shop:
    """Merchants with names of their own, on ingest and query."""

    urls: Mapping[Service, str]
    merchant: str
    rival: str

    def address(self, reference: str, merchant: str = "") -> str:
        return f"/v1/merchants/{merchant or self.merchant}/orders/{quote(reference, safe='')}"

    async def send(
        self,
        service: Service,
        method: str,
        target: str,
        body: Any = None,
        *,
        bearer: str = "",
        **headers: str,
    ) -> Answer:
        """Sends these very bytes: clients change dots in a path. By HTTP/1.0 no answer is cut into chunks."""
        content = b"" if body is None else orjson.dumps(body)
        sent = {
            "Host": "x",
            "Authorization": f"Bearer {bearer or token()}",
            "Content-Type": "application/json",
        }
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= {"Content-Length": str(len(content)), "Connection": "close"}
        lines = [f"{method} {target} HTTP/1.0", *(f"{name}: {value}" for name, value in sent.items()), "", ""]
        connection = await RawConnection.open(self.urls[service])
        try:
            await connection.send("\r\n".join(lines).encode() + content)
            return await connection.answer()
        finally:
            connection.close()

    async def get(self, target: str, *, service: Service = "query", bearer: str = "") -> Answer:
        return await self.send(service, "GET", target, bearer=bearer)

    async def post(self, target: str, body: Any, **arguments: str) -> Answer:
        return await self.send("ingest", "POST", target, body, **arguments)

    async def create(self, reference: str | None, merchant: str = "", **fields: Any) -> Answer:
        headers = {"Idempotency_Key": fields.pop("key")} if "key" in fields else {}
        body = {"merchant_id": merchant or self.merchant, "customer": CUSTOMER, "reference": reference}
        return await self.post("/v1/orders", body | fields, **headers)


@pytest.fixture(scope="module")
async def urls(
    module_spine: Spine, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mapping[Service, str]]:
    """One stack for all tests here."""
    async with service_starter(module_spine.environment, tmp_path_factory.mktemp("query")) as start:
        query = await start("query")
        yield {"ingest": module_spine.ingest.url, "query": query.url}


@pytest.fixture
def shop(urls: Mapping[Service, str]) -> Shop:
    name = uuid4().hex[:12]
    return Shop(urls, f"shop-{name}", f"rival-{name}")


@pytest.mark.parametrize("reference", REFERENCES)
async def test_a_reference_leads_to_its_order_on_every_path(shop: Shop, reference: str) -> None:
    order_id, address = referenced_order_id(shop.merchant, reference), shop.address(reference)
    created = await shop.create(reference)
    assert (created.status, created.headers["location"]) == (201, f"/v1/orders/{order_id}")
    assert created.json["order"]["reference"] == reference
    moved = await shop.post(f"{address}/updates", {"status": "picked_up"})
    assert (moved.status, moved.json["order_id"], moved.json["version"]) == (200, order_id, 2)
    for service in ("ingest", "query"):
        by_id = await shop.get(f"/v1/orders/{order_id}", service=service)
        found = await shop.get(address, service=service)
        assert (found.status, found.body, found.headers["etag"]) == (200, by_id.body, by_id.headers["etag"])
        assert found.json["reference"] == reference
    for below in ("/history", "/updates", f"?at={quote(moved.json['order']['updated_at'])}"):
        by_id = await shop.get(f"/v1/orders/{order_id}{below}")
        found = await shop.get(address + below)
        assert (found.status, found.json) == (200, by_id.json)
    refused = await shop.post(f"{address}/updates", {"status": "created"})
    assert (refused.status, refused.slug) == (409, "invalid-transition")
    assert refused.json["instance"] == f"{address}/updates"


async def test_checkpoints_and_corrections_follow_the_reference(shop: Shop) -> None:
    order_id, address = referenced_order_id(shop.merchant, "WH/OUT/00012"), shop.address("WH/OUT/00012")
    assert (await shop.create("WH/OUT/00012")).status == 201
    noted = await shop.post(f"{address}/checkpoints", {"kind": "note", "message": "at the gate"})
    assert (noted.status, noted.json["order_id"], noted.json["version"]) == (200, order_id, 2)
    wrong = {"status": "delivered", "reason": "scanned by mistake"}
    assert (await shop.post(f"{address}/corrections", wrong)).status == 403
    corrector = token(scope="orders:correct", merchants=[shop.merchant])
    corrected = await shop.post(f"{address}/corrections", wrong, bearer=corrector)
    assert (corrected.status, corrected.json["order_id"], corrected.json["version"]) == (200, order_id, 3)
    named = {"merchant_id": shop.merchant, "reference": "WH/OUT/00012"}
    operations = [
        {"op": "checkpoint", "kind": "note", "message": "again", **named},
        {"op": "correct", "status": "created", "reason": "it was right", **named},
    ]
    admin = token(scope="orders:admin")
    batch = (await shop.post("/v1/batch", operations, bearer=admin)).json["results"]
    assert [(line["order_id"], line.get("version")) for line in batch] == [(order_id, 4), (order_id, 5)]
    history = await shop.get(f"{address}/history")
    assert [item["type"] for item in history.json["items"]] == [
        "order.created",
        *("order.checkpoint_added", "order.corrected") * 2,
    ]


async def test_two_merchants_have_the_same_number(shop: Shop) -> None:
    for merchant in (shop.merchant, shop.rival):
        assert (await shop.create("#1001", merchant)).status == 201
    assert (await shop.post(f"{shop.address('#1001')}/updates", {"status": "cancelled"})).status == 200
    statuses = [
        (await shop.get(shop.address("#1001", each))).json["status"] for each in (shop.merchant, shop.rival)
    ]
    assert statuses == ["cancelled", "created"]


async def test_a_second_create_is_a_replay_or_is_refused(shop: Shop) -> None:
    first = await shop.create("1", key="k-1")
    again = await shop.create("1", key="k-1")
    assert (again.status, again.headers["idempotent-replayed"]) == (201, "true")
    assert again.json == first.json | {"outcome": "duplicate"}
    other = await shop.create("1", key="k-2")
    assert (other.status, other.slug) == (409, "order-exists")
    other_body = await shop.create("1", key="k-1", metadata={"x": 1})
    assert (other_body.status, other_body.slug) == (422, "idempotency-key-reused")


async def test_of_many_creates_at_once_one_makes_the_order(shop: Shop) -> None:
    answers = await asyncio.gather(*(shop.create("1") for _ in range(12)))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 11


async def test_an_order_id_of_the_caller_has_no_address_by_reference(shop: Shop) -> None:
    own = uuid4().hex
    assert (await shop.create("1", order_id=own)).json["order_id"] == own
    assert (await shop.get(shop.address("1"))).slug == "order-not-found"
    listed = await shop.get(f"/v1/orders?reference=1&merchant_id={shop.merchant}")
    assert [order["order_id"] for order in listed.json["items"]] == [own]
    assert (await shop.create("1")).status == 201  # another order with the same number
    listed = await shop.get(f"/v1/orders?reference=1&merchant_id={shop.merchant}")
    assert len(listed.json["items"]) == 2


async def test_nobody_can_take_the_order_of_another_merchants_number(shop: Shop) -> None:
    taken = referenced_order_id(shop.merchant, "1")
    for reference in (None, "1", "2"):
        answer = await shop.create(reference, shop.rival, order_id=taken)
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/order_id")
    assert (await shop.create("1")).status == 201


def alike(answer: Answer) -> Any:
    """The answer without what differs between any two."""
    document = {
        name: value
        for name, value in answer.json.items()
        if name not in ("trace_id", "instance", "update_id")
    }
    return answer.status, orjson.loads(re.sub(rb"r-[a-z2-7]{26}", b"ID", orjson.dumps(document)))


async def test_a_stranger_cannot_tell_whether_a_number_is_used(shop: Shop) -> None:
    assert (await shop.create("used")).status == 201
    stranger = token(sub="stranger", merchants=[shop.rival])
    narrow = token(merchants=[shop.merchant], orders=[referenced_order_id(shop.rival, "used")])
    for bearer in (stranger, narrow):
        for below in ("", "/history", "/updates"):
            used, free = [
                await shop.get(shop.address(reference) + below, bearer=bearer)
                for reference in ("used", "free")
            ]
            assert alike(used) == alike(free)
            assert used.slug == "order-not-found"
        used, free = [
            await shop.post(f"{shop.address(reference)}/updates", {"status": "picked_up"}, bearer=bearer)
            for reference in ("used", "free")
        ]
        assert alike(used) == alike(free)
        assert used.slug == "order-not-found"
        listed = await shop.get("/v1/orders?reference=used", bearer=bearer)
        assert listed.json["items"] == []


async def test_a_token_for_one_order_names_the_derived_id(shop: Shop) -> None:
    assert (await shop.create("1")).status == 201
    link = token(merchants=[], orders=[referenced_order_id(shop.merchant, "1")], scope="orders:read")
    seen = await shop.get(shop.address("1"), bearer=link)
    assert (seen.status, seen.json["reference"]) == (200, "1")
    assert "customer" not in seen.json
    assert (await shop.get(shop.address("2"), bearer=link)).status == 404


async def test_lists_exports_and_the_log_hold_the_reference(shop: Shop) -> None:
    for merchant in (shop.merchant, shop.rival):
        assert (await shop.create("WH/OUT/00012", merchant)).status == 201
    assert (await shop.create(None)).status == 201
    of_both = await shop.get("/v1/orders?reference=WH%2FOUT%2F00012")
    mine = [each for each in of_both.json["items"] if each["merchant_id"] in (shop.merchant, shop.rival)]
    assert len(mine) == 2
    of_one = f"/v1/orders?merchant_id={shop.merchant}"
    assert len((await shop.get(f"{of_one}&reference=WH/OUT/00012")).json["items"]) == 1
    csv = (await shop.send("query", "GET", of_one, Accept="text/csv")).body.decode().split("\r\n")
    assert csv[0].startswith("order_id,merchant_id,reference,customer_name")
    assert sorted(line.split(",")[2] for line in csv[1:3]) == ["", "WH/OUT/00012"]
    lines = (await shop.send("query", "GET", of_one, Accept="application/x-ndjson")).body.splitlines()
    assert {orjson.loads(line)["reference"] for line in lines} == {None, "WH/OUT/00012"}
    events = await shop.get(f"/v1/events?merchant_id={shop.merchant}&limit=10")
    assert {event["data"]["reference"] for event in events.json["events"]} == {None, "WH/OUT/00012"}


@pytest.mark.parametrize("asked", ["", "%20", "a%00", "x" * 65])
async def test_a_filter_that_is_no_reference_is_refused(shop: Shop, asked: str) -> None:
    answer = await shop.get(f"/v1/orders?reference={asked}")
    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/query/reference")


async def test_pages_of_a_history_follow_their_link(shop: Shop) -> None:
    address = shop.address("日本/7")
    assert (await shop.create("日本/7")).status == 201
    for status in ("picked_up", "in_transit"):
        assert (await shop.post(f"{address}/updates", {"status": status})).status == 200
    target, versions = f"{address}/history?limit=2", []
    while target:
        page = await shop.get(target)
        versions += [item["version"] for item in page.json["items"]]
        link = re.fullmatch(r'<([^>]+)>; rel="next"', page.headers.get("link", ""))
        target = link[1] if link else ""
        assert not target or target.startswith(address)
    assert versions == [1, 2, 3]


async def test_a_batch_may_say_merchant_and_reference(shop: Shop) -> None:
    named = {"merchant_id": shop.merchant, "reference": "ORD 2024/17"}
    operations = [
        {"op": "create", "customer": CUSTOMER, **named},
        {"op": "update", "status": "picked_up", **named},
        {"op": "update", "status": "delivered", **named},
        {"op": "update", "status": "in_transit", **named, "order_id": "o-1"},
    ]
    order_id = referenced_order_id(shop.merchant, "ORD 2024/17")
    batch = (await shop.post("/v1/batch", operations)).json["results"]
    assert [line["outcome"] for line in batch] == ["applied", "applied", "rejected", "rejected"]
    assert [line["order_id"] for line in batch] == [order_id] * 3 + ["o-1"]
    assert (await shop.get(shop.address("ORD 2024/17"))).json["status"] == "picked_up"


async def test_an_order_is_found_by_the_beginning_of_its_reference_and_of_each_part(shop: Shop) -> None:
    number = uuid4().hex[:8]
    assert (await shop.create(f"WH/OUT/{number}")).status == 201

    async def found(text: str) -> bool:
        answer = await shop.get(f"/v1/orders?merchant_id={shop.merchant}&q={quote(text, safe='')}")
        return [order["reference"] for order in answer.json["items"]] == [f"WH/OUT/{number}"]

    await eventually(lambda: found(number))
    for text in ("wh/out", f"WH/OUT/{number[:4]}", "out", number[:5], f"{shop.merchant} {number}"):
        assert await found(text), text
    assert not await found("uot")


async def test_an_accepted_update_says_where_its_outcome_is(shop: Shop) -> None:
    assert (await shop.create("a/b")).status == 201
    answer = await shop.post(
        f"{shop.address('a/b')}/updates", {"status": "picked_up"}, Prefer="respond-async", Idempotency_Key="k"
    )
    order_id = referenced_order_id(shop.merchant, "a/b")
    assert (answer.status, answer.headers["location"]) == (202, f"/v1/updates/{order_id}/k")

    async def decided() -> bool:
        return (await shop.get(answer.headers["location"])).status == 200

    await eventually(decided)
