"""Updates that order-state itself fails on: their orders wait for an operator, and nobody else does."""

import asyncio
import getpass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import ClientSession

from builders import create_command, update_command
from callers import Answer, Caller, eventually, many_lives, token
from command_line import run
from fixtures import PARTITIONS, Spine, StartService
from listeners import examine, listening
from statements.recording import with_recording
from stored_outcomes import stored_outcomes
from tracking.devstack.service_process import PORT_VARIABLES, ServiceProcess
from tracking.upkeep.failed_updates import NotReleased, release
from tracking_shared.contracts.commands import COMMANDS_MEDIA_TYPE, encode_command, join_commands
from tracking_shared.contracts.documents import ParkedDocument
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.messaging.connection import connect
from tracking_shared.messaging.topology import COMMANDS_EXCHANGE, routing_key
from tracking_shared.storage.audit_trail import Actor
from tracking_shared.storage.database import open_database

HERE = str(Path(__file__).parent.parent)

WAYS = {
    "deciding": "ZeroDivisionError in tracking_order_state.domain.decisions.refusal",
    "loading": "ValueError in tracking_order_state.processing.batch_reader._load",
    "committing": "OverflowError in tracking_order_state.adapters.store._write",
    "refused": "NotNew (11000) in tracking_order_state.adapters.store.refusals",
}
"""Where it can fail, and what an operator is told of it."""

ALL_STEPS = ["created", "picked_up", "in_transit", "delivered"]


@pytest.fixture
def environment(service_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The faulty module can be started."""
    monkeypatch.setitem(PORT_VARIABLES, "faulty_order_state", "ORDER_STATE_PORT")
    service_environment |= {"PARTITIONS": str(PARTITIONS), "PYTHONPATH": with_recording(HERE)}
    return service_environment


async def report(caller: Caller, order_id: str, status: str, update_id: str) -> Answer:
    """One update of an order; what is answered is remembered."""
    path = f"/v1/orders/{order_id}/updates"
    return await caller.insist(path, {"status": status}, update_id, order_id)


async def poisoned_order(caller: Caller, order_id: str | None = None) -> str:
    """An order that waits with three updates, the first of which is poisoned."""
    order_id = order_id or uuid4().hex
    await caller.live(order_id, steps=())
    steps = [("picked_up", "poison"), ("in_transit", "second"), ("delivered", "third")]
    answers = [await report(caller, order_id, status, update_id) for status, update_id in steps]
    assert [answer.status for answer in answers] == [202, 202, 202]
    return order_id


async def parked(environment: dict[str, str], order_id: str) -> list[ParkedDocument]:
    """What is parked of an order, in its order."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        return await database.parked.find({"order_id": order_id}).sort("place").to_list()


async def history(environment: dict[str, str], order_id: str) -> list[str]:
    """The statuses that an order had, by version."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        events = await database.order_events.find({"order_id": order_id}).sort("version").to_list()
        return [event["status"] for event in events]


async def operate(environment: dict[str, str], order_id: str, *, skip: bool = False) -> str:
    """What `tracking parked` does."""
    urls = environment["AMQP_URL"], environment["MONGODB_URL"]
    name = environment["MONGODB_DATABASE"]
    return await release(*urls, name, order_id, skip=skip, actor=Actor("ops", "command-line"))


async def others_flow(caller: Caller) -> None:
    """Fails unless updates of other orders are decided while their callers wait."""
    async with Caller(caller.urls) as others:
        await many_lives(others, 8)
    assert {told.outcome for told in others.acknowledged} == {"applied", "rejected"}
    caller.acknowledged.extend(others.acknowledged)


@pytest.mark.parametrize("way", WAYS)
async def test_an_order_that_it_fails_on_waits_in_order_and_all_others_flow(
    way: str, environment: dict[str, str], start_service: StartService
) -> None:
    async with listening(environment["AMQP_URL"], PARTITIONS) as announced:
        ingest = await start_service("ingest")
        faulty = await start_service("faulty_order_state", POISON=way)
        async with Caller([ingest.url]) as caller:
            others = asyncio.create_task(others_flow(caller))
            order_id = await poisoned_order(caller)
            await others
            await report(caller, order_id, "picked_up", "poison")  # a repeat
            await report(caller, order_id, "delivered", "third")
            waiting = await parked(environment, order_id)
            assert [one["update_id"] for one in waiting] == ["poison", "second", "third"]
            assert [one["place"] for one in waiting] == [1, 2, 3]
            assert [bool(one["error"]) for one in waiting] == [True, False, False]
            assert (waiting[0]["error"] or "").startswith(WAYS[way])
            assert "Lovelace" not in faulty.log_path.read_text()
            assert await history(environment, order_id) == ["created"]
            await examine(environment, caller.acknowledged, announced)

            await faulty.kill()
            other = await start_service("faulty_order_state", POISON=way)
            assert (await report(caller, order_id, "cancelled", "fourth")).status == 202
            with pytest.raises(NotReleased, match=r"still parked: .* 3 behind"):
                await operate(environment, order_id)
            await others_flow(caller)
            assert [one["update_id"] for one in await parked(environment, order_id)][3:] == ["fourth"]

            await other.stop()
            await start_service("order_state")
            assert "4 updates are decided" in await operate(environment, order_id)
            assert await parked(environment, order_id) == []
            assert await history(environment, order_id) == ALL_STEPS
            again = await report(caller, order_id, "in_transit", "second")
            assert (again.status, again.body["outcome"], again.body["version"]) == (200, "duplicate", 3)
            late = await report(caller, order_id, "cancelled", "fourth")
            assert (late.status, late.body["type"]) == (409, "/problems/invalid-transition")
            with pytest.raises(NotReleased, match="nothing of order"):
                await operate(environment, order_id)
        await examine(environment, caller.acknowledged, announced)


async def test_checkpoints_and_corrections_of_a_parked_order_wait_in_their_place(
    environment: dict[str, str], start_service: StartService
) -> None:
    """Also where the checkpoint is on its way while the order is being parked."""
    ingest = await start_service("ingest")
    faulty = await start_service("faulty_order_state", POISON="deciding")
    async with Caller([ingest.url]) as caller:
        order_id = uuid4().hex
        await caller.live(order_id, steps=())
        bearer = token(scope="orders:write orders:correct")

        async def change(what: str, body: dict[str, str], update_id: str) -> Answer:
            path = f"/v1/orders/{order_id}/{what}"
            return await caller.insist(path, body, update_id, order_id, bearer=bearer)

        note = {"kind": "note", "message": "ring twice"}
        correction = {"status": "cancelled", "reason": "ordered twice"}
        answers = await asyncio.gather(
            report(caller, order_id, "picked_up", "poison"), change("checkpoints", note, "early")
        )
        # The note was recorded before the update that failed, or waits behind it.
        assert answers[0].status == 202
        assert answers[1].status in (200, 202)
        is_early = answers[1].status == 200
        assert (await change("corrections", correction, "fix")).status == 202
        assert (await change("checkpoints", note, "late")).status == 202
        assert (await change("checkpoints", note, "late")).status == 202
        waiting = [one["update_id"] for one in await parked(environment, order_id)]
        assert waiting == (["poison"] if is_early else ["poison", "early"]) + ["fix", "late"]
        await faulty.stop()
        await start_service("order_state")
        assert f"{len(waiting)} updates are decided" in await operate(environment, order_id)
        steps = ["created", "created", "picked_up"] if is_early else ["created", "picked_up", "picked_up"]
        assert await history(environment, order_id) == [*steps, "cancelled", "cancelled"]
        again = await change("corrections", correction, "fix")
        assert (again.body["outcome"], again.body["version"]) == ("duplicate", 4)
        await examine(environment, caller.acknowledged)


async def test_an_update_that_is_given_up_is_rejected_and_the_rest_goes_on(
    environment: dict[str, str], start_service: StartService
) -> None:
    async with listening(environment["AMQP_URL"], PARTITIONS) as announced:
        ingest = await start_service("ingest")
        await start_service("faulty_order_state", POISON="deciding")
        async with Caller([ingest.url]) as caller:
            order_id = await poisoned_order(caller)
            await report(caller, order_id, "picked_up", "fourth")
            await report(caller, order_id, "cancelled", "poison-too")
            await report(caller, order_id, "cancelled", "sixth")

            with pytest.raises(NotReleased, match=r"still parked: .* update poison-too .* 1 behind"):
                await operate(environment, order_id, skip=True)
            assert await history(environment, order_id) == ["created", "picked_up"]
            assert "waits no more" in await operate(environment, order_id, skip=True)
            assert await history(environment, order_id) == ["created", "picked_up", "cancelled"]

            async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
                stored = await stored_outcomes(database)
                outcomes = {one["update_id"]: one for one in stored.values()}
            told = {
                name: (one["outcome"], (one["problem"] or {}).get("slug")) for name, one in outcomes.items()
            }
            assert told == {
                f"{order_id}.create": ("applied", None),
                "poison": ("rejected", "internal-error"),
                "second": ("rejected", "invalid-transition"),
                "third": ("rejected", "invalid-transition"),
                "fourth": ("applied", None),
                "poison-too": ("rejected", "internal-error"),
                "sixth": ("applied", None),
            }
        await examine(environment, caller.acknowledged, announced)


@pytest.mark.parametrize("step", ["in-transaction", "after-commit", "after-announce"])
async def test_killed_in_the_middle_of_a_release_the_next_one_carries_on(
    step: str, environment: dict[str, str], start_service: StartService
) -> None:
    async with listening(environment["AMQP_URL"], PARTITIONS) as announced:
        ingest = await start_service("ingest")
        faulty = await start_service("faulty_order_state", POISON="committing")
        async with Caller([ingest.url]) as caller:
            order_id = await poisoned_order(caller)
            await faulty.stop()
            dying = await start_service("faulty_order_state", FAULT=f"kill:{step}")
            released = asyncio.create_task(operate(environment, order_id))
            await dying.process.wait()
            await start_service("order_state")
            assert "waits no more" in await released
            assert await history(environment, order_id) == ALL_STEPS
        await examine(environment, caller.acknowledged, announced)


async def test_bad_updates_among_many_in_one_message_wait_alone(
    environment: dict[str, str], start_service: StartService
) -> None:
    ingest = await start_service("ingest")
    await start_service("faulty_order_state", POISON="committing")
    customer = {"name": "Ada", "contact_ref": "crm-1"}
    orders = [uuid4().hex for _ in range(60)]
    lines: list[dict[str, Any]] = [
        line
        for number, order_id in enumerate(orders)
        for line in (
            {
                "op": "create",
                "order_id": order_id,
                "merchant_id": "m",
                "customer": customer,
                "update_id": "create",
            },
            {
                "op": "update",
                "order_id": order_id,
                "status": "picked_up",
                "update_id": f"poison-{number}" if number % 20 == 7 else f"good-{number}",
            },
            {"op": "update", "order_id": order_id, "status": "in_transit"},
        )
    ]
    async with Caller([ingest.url]) as caller:
        results = (await caller.post("/v1/batch", lines)).body["results"]
        outcomes = [[result["outcome"] for result in results[n : n + 3]] for n in range(0, 180, 3)]
        good, bad = ["applied"] * 3, ["applied", "accepted", "accepted"]
        assert outcomes == [bad if number % 20 == 7 else good for number in range(60)]
        for order_id in orders[7::20]:
            assert len(await parked(environment, order_id)) == 2
        assert (await caller.post("/v1/batch", lines[:21])).body["results"][0]["outcome"] == "duplicate"
        sneaky = [{"op": "release", "order_id": orders[7]}]
        assert (await caller.post("/v1/batch", sneaky)).body["results"][0]["outcome"] == "rejected"
        assert len(await parked(environment, orders[7])) == 2
    await examine(environment, [])


async def test_what_the_database_cannot_hold_is_parked_and_can_be_given_up(spine: Spine) -> None:
    """Without any fault put in: ingest refuses such numbers, somebody else on the broker may not."""
    order_id = uuid4().hex
    await spine.caller.live(order_id, steps=())
    bad = update_command(order_id).model_copy(update={"metadata": {"number": 2**70}})
    async with connect(spine.environment["AMQP_URL"], "hostile") as connection:
        publisher = await connection.publisher(COMMANDS_EXCHANGE)
        body = join_commands([encode_command(bad), encode_command(create_command(order_id))])
        key = routing_key(partition_of(order_id, PARTITIONS))
        await publisher.publish(key, body, content_type=COMMANDS_MEDIA_TYPE)
    await eventually(lambda: parked(spine.environment, order_id))
    await others_flow(spine.caller)
    with pytest.raises(NotReleased, match="OverflowError"):
        await operate(spine.environment, order_id)
    assert "2 updates are decided" in await operate(spine.environment, order_id, skip=True)
    assert (await report(spine.caller, order_id, "picked_up", "good")).body["version"] == 2
    await examine(spine.environment, spine.caller.acknowledged)


async def test_a_full_database_parks_nothing_and_is_waited_for(
    environment: dict[str, str], start_service: StartService
) -> None:
    async with listening(environment["AMQP_URL"], PARTITIONS) as announced:
        ingest = await start_service("ingest")
        faulty = await start_service("faulty_order_state", POISON="full")
        async with Caller([ingest.url]) as caller:
            order_id = await poisoned_order(caller)
            await eventually(lambda: says(faulty, "database away: writes were refused with [14031]"))
            assert await parked(environment, order_id) == []
            await faulty.stop()
            await start_service("order_state")
            await eventually(lambda: is_delivered(environment, order_id))
        await examine(environment, caller.acknowledged, announced)


async def test_a_partition_with_too_many_parked_orders_waits_and_the_others_do_not(
    environment: dict[str, str], start_service: StartService
) -> None:
    first, second, third = [order_id for order_id in (uuid4().hex for _ in range(200)) if in_0(order_id)][:3]
    async with listening(environment["AMQP_URL"], PARTITIONS) as announced:
        ingest = await start_service("ingest")
        faulty = await start_service("faulty_order_state", POISON="deciding", MAX_PARKED_ORDERS="1")
        async with Caller([ingest.url]) as caller:
            await poisoned_order(caller, first)
            await poisoned_order(caller, second)
            await eventually(
                lambda: says(
                    faulty, "partition 0 is stalled, next attempt in 1 s: 1 orders of partition 0 are parked"
                )
            )
            for _ in range(8):
                order_id = next(name for name in (uuid4().hex for _ in range(200)) if not in_0(name))
                assert [answer.status for answer in await caller.live(order_id, ["picked_up"])] == [201, 200]
            assert (await caller.live(third, steps=(), Prefer="wait=1"))[0].status == 202
            assert await parked(environment, second) == []
            await faulty.stop()
            await start_service("order_state")
            await eventually(lambda: is_delivered(environment, second))
            assert "3 updates are decided" in await operate(environment, first)
        await examine(environment, caller.acknowledged, announced)


def in_0(order_id: str) -> bool:
    return partition_of(order_id, PARTITIONS) == 0


async def says(service: ServiceProcess, text: str) -> bool:
    return text in await asyncio.to_thread(service.log_path.read_text)


async def is_delivered(environment: dict[str, str], order_id: str) -> bool:
    return await history(environment, order_id) == ALL_STEPS


async def test_the_command_line_lists_replays_and_gives_up(
    environment: dict[str, str], start_service: StartService
) -> None:
    ingest = await start_service("ingest")
    faulty = await start_service("faulty_order_state", POISON="deciding")
    async with Caller([ingest.url]) as caller:
        assert await tracking(environment, "parked") == (0, "nothing is parked\n", "")
        one, two = await poisoned_order(caller), await poisoned_order(caller)

        await eventually(lambda: orders_by_metric(faulty, 2))

        code, listed, _ = await tracking(environment, "parked")
        assert code == 0
        assert sorted(line.split("  ")[0] for line in listed.splitlines()) == sorted([one, two])
        assert all("  update poison  since 20" in line for line in listed.splitlines())
        assert all(
            "  ZeroDivisionError in tracking_order_state.domain.decisions" in line
            for line in listed.splitlines()
        )
        assert all(line.endswith("  2 behind") for line in listed.splitlines())

        code, said, errors = await tracking(environment, "parked", "replay", one)
        assert (code, said) == (1, "")
        assert errors.startswith(f"tracking: still parked: {one}")
        given_up = f"order {one} waits no more; 3 updates are decided\n"
        assert await tracking(environment, "parked", "skip", one) == (0, given_up, "")
        await faulty.stop()
        sound = await start_service("order_state")
        await eventually(lambda: orders_by_metric(sound, 1))
        assert (await tracking(environment, "parked", "replay", two))[0] == 0
        await eventually(lambda: orders_by_metric(sound, 0))
        assert await history(environment, two) == ALL_STEPS
        assert await tracking(environment, "parked") == (0, "nothing is parked\n", "")

        code, trail, _ = await tracking(environment, "audit")
        acts = [line.split("  ")[1:] for line in trail.splitlines()]
        assert code == 0
        assert [act[1] for act in acts] == [
            "installation.started",
            "parked.replay",
            "parked.skip",
            "parked.replay",
        ]
        assert [act[2] for act in acts[1:]] == [one, one, two]
        assert {act[0] for act in acts[1:]} == {f"{getpass.getuser()} (command-line)"}
        assert all("update_id=poison" in act[3] and "Lovelace" not in act[3] for act in acts[1:])
    await examine(environment, caller.acknowledged)


async def orders_by_metric(service: ServiceProcess, number: int) -> bool:
    """Whether the gauges of a replica say that so many orders are parked."""
    async with ClientSession() as session, session.get(f"{service.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    gauges = [line for line in lines if line.startswith("tracking_parked_orders{")]
    return len(gauges) == PARTITIONS and sum(float(line.split()[1]) for line in gauges) == number


async def tracking(environment: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the command."""
    finished = await run(*arguments, environment=environment)
    return finished.exit_code, finished.output, finished.errors
