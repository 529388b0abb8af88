"""The data and the messages of each release, in an installation of this one."""

from collections.abc import Mapping
from contextlib import suppress
from uuid import uuid4

import orjson
import pytest

from callers import Caller, eventually
from fixtures import StartService
from listeners import examine
from reading import get
from release_corpus import Corpus, Message, read_corpora
from tracking.upkeep.failed_updates import NotReleased, release
from tracking_shared.contracts.commands import COMMANDS_MEDIA_TYPE
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.messaging.connection import connect
from tracking_shared.messaging.topology import COMMANDS_EXCHANGE, routing_key
from tracking_shared.storage.audit_trail import Actor
from tracking_shared.storage.database import open_database


async def restore(corpus: Corpus, environment: Mapping[str, str]) -> None:
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        for name, documents in corpus.documents.items():
            if documents:
                await database.raw[name].insert_many([*documents])


async def send(messages: list[Message], amqp_url: str, partitions: int) -> None:
    async with connect(amqp_url, "test") as connection:
        publisher = await connection.publisher(COMMANDS_EXCHANGE)
        for message in messages:
            partition = partition_of(orjson.loads(message.body)[0]["order_id"], partitions)
            await publisher.publish(
                routing_key(partition),
                message.body,
                content_type=COMMANDS_MEDIA_TYPE,
                headers=dict(message.headers),
            )


@pytest.mark.parametrize("corpus", read_corpora(), ids=lambda corpus: corpus.release)
async def test_the_data_of_a_release_is_served_and_goes_on(
    corpus: Corpus, service_environment: dict[str, str], start_service: StartService
) -> None:
    partitions = len(corpus.documents["partitions"])
    service_environment["PARTITIONS"] = str(partitions)
    await restore(corpus, service_environment)
    await start_service("order_state")
    query, ingest = await start_service("query"), await start_service("ingest")

    for order in corpus.documents["orders"]:
        found = await get(query.url, f"/v1/orders/{order['_id']}/history?limit=500")
        versions = [item["version"] for item in found["items"]]
        assert versions[: order["version"]] == list(range(1, order["version"] + 1))
        assert (await get(query.url, f"/v1/orders/{order['_id']}"))["order_id"] == order["_id"]
    listed = await get(query.url, "/v1/orders?limit=500")
    assert {one["order_id"] for one in listed["items"]} >= {one["_id"] for one in corpus.documents["orders"]}
    logged = await get(query.url, "/v1/events?limit=500")
    assert len(logged["events"]) >= len(corpus.documents["order_events"])

    async with Caller([ingest.url]) as caller:
        # All of these are known, so they make no event. The releases among them are for what is parked.
        await send([*corpus.messages["commands"]], service_environment["AMQP_URL"], partitions)
        for parked in {one["order_id"] for one in corpus.documents["parked"]}:
            urls = (service_environment[name] for name in ("AMQP_URL", "MONGODB_URL", "MONGODB_DATABASE"))
            with suppress(NotReleased):  # it is released already
                await release(*urls, parked, skip=False, actor=Actor("ops", "command-line"))
        for order in corpus.documents["orders"]:
            await caller.insist(
                f"/v1/orders/{order['_id']}/checkpoints", {"kind": "note"}, uuid4().hex, order["_id"]
            )
        await caller.live(uuid4().hex)

        async def is_settled() -> bool:
            async with open_database(
                service_environment["MONGODB_URL"], service_environment["MONGODB_DATABASE"]
            ) as database:
                is_erased = await database.erasures.find_one({"open": True}) is None
                return is_erased and await database.parked.find_one({}) is None

        await eventually(is_settled)
        await examine(service_environment, caller.acknowledged)
