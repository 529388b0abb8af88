"""Messages that are no commands for their queue: put aside, while the rest flows."""

from collections.abc import Awaitable, Callable
from uuid import uuid4

from builders import create_command
from callers import eventually
from fixtures import PARTITIONS, Spine
from listeners import examine
from tracking_shared.contracts.commands import COMMANDS_MEDIA_TYPE, encode_command, join_commands
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.messaging.connection import connect
from tracking_shared.messaging.topology import COMMANDS_EXCHANGE, DEAD_QUEUE, routing_key

OWN = next(name for name in (f"o-{n}" for n in range(99)) if partition_of(name, PARTITIONS) == 0)
FOREIGN = next(name for name in (f"o-{n}" for n in range(99)) if partition_of(name, PARTITIONS) != 0)

BAD = {
    "no json": b"\x00\xffnonsense",
    "not a batch": b'{"op": "create"}',
    "an empty batch": b"[]",
    "another kind of command": b'[{"op": "explode"}]',
    "a grant of another kind": join_commands([encode_command(create_command(OWN))]).replace(
        b'"grant":{', b'"grant":{"regions":[],'
    ),
    "another partition's": join_commands([encode_command(create_command(FOREIGN))]),
    "too many": b"[" + b",".join([b"1"] * 501) + b"]",
}


async def test_bad_messages_go_to_the_dead_letter_queue_and_hold_up_nobody(spine: Spine) -> None:
    async with connect(spine.environment["AMQP_URL"], "hostile") as connection:
        publisher = await connection.publisher(COMMANDS_EXCHANGE)
        for number, (name, body) in enumerate(BAD.items(), 1):
            await publisher.publish(routing_key(0), body, content_type=COMMANDS_MEDIA_TYPE)
            answers = await spine.caller.live(uuid4().hex)
            assert [answer.status for answer in answers] == [201, 200, 409, 200, 200, 200, 409], name
            await eventually(depth_is(connection.depth, number))
    await examine(spine.environment, spine.caller.acknowledged)


def depth_is(depth: Callable[[str], Awaitable[int]], expected: int) -> Callable[[], Awaitable[bool]]:
    async def reached() -> bool:
        return await depth(DEAD_QUEUE) == expected

    return reached


async def test_the_bad_lines_of_a_batch_are_refused_alone_and_order_is_kept(spine: Spine) -> None:
    order_id = uuid4().hex
    customer = '{"name":"A","contact_ref":"c"}'
    lines = [
        f'{{"op":"create","order_id":"{order_id}","merchant_id":"m","customer":{customer}}}',
        f'{{"op":"update","order_id":"{order_id}","status":"picked_up","update_id":"u1"}}',
        "{broken",
        f'{{"op":"update","order_id":"{order_id}","status":"teleported","update_id":"u2"}}',
        f'{{"op":"update","order_id":"{order_id}","status":"delivered"}}',
        f'{{"op":"update","order_id":"{order_id}","status":"in_transit","colour":"red"}}',
        f'{{"op":"update","order_id":"{order_id}","status":"in_transit"}}',
    ]
    answer = await spine.caller.post("/v1/batch", "\n".join(lines), Content_Type="application/x-ndjson")
    assert answer.status == 200
    results = answer.body["results"]
    assert [result["index"] for result in results] == list(range(7))
    assert [result["outcome"] for result in results] == [
        "applied",
        "applied",
        "rejected",
        "rejected",
        "rejected",
        "rejected",
        "applied",
    ]
    assert [result.get("version") for result in results if result["outcome"] == "applied"] == [1, 2, 3]
    assert [result["problem"]["type"] for result in results if result["outcome"] == "rejected"] == [
        "/problems/malformed-json",
        "/problems/validation-failed",
        "/problems/invalid-transition",
        "/problems/validation-failed",
    ]
    assert results[3]["update_id"] == "u2"
