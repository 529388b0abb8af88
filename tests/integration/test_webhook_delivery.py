"""Deliveries on a real database: signed, in order, to those entitled, whatever the receivers do."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook
from webhook_stack import (
    EVERYTHING,
    Clock,
    FreezingStore,
    Receiver,
    WebhookWorld,
    receiver,
    until,
    versions_through,
    webhook_world,
)

from tracking_query.webhooks.changes import secret_text
from tracking_query.webhooks.pending import Pending, count_pending
from tracking_shared.auth.revocations import revoke_subject
from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.timestamps import now
from tracking_shared.contracts.webhooks import GrantDocument
from tracking_webhooks.domain.progress import MAX_IN_FLIGHT, MAX_WINDOW_EVENTS

HOUR = 3600.0


@pytest.fixture
async def world(mongodb_url: str) -> AsyncIterator[WebhookWorld]:
    async with webhook_world(mongodb_url) as made:
        yield made


async def is_saved(world: WebhookWorld, webhook_id: str) -> bool:
    """True if everything in the log is delivered, and the database says so."""
    stored = await world.stored(webhook_id)
    return stored["seqs"] == world.world.seqs and not stored["delayed"]


async def test_every_event_is_delivered_in_order_and_signed(world: WebhookWorld) -> None:
    async with receiver() as hook:
        webhook_id, key = await world.register(hook.url)
        await world.add("a", "b", "a")
        await world.start_sender()
        await until(lambda: hook.count == 3)
        await world.add("a", "b", "c")
        await until(lambda: hook.count == 6)
        await until(lambda: is_saved(world, webhook_id), seconds=40)

    assert dict(hook.taken) == {"a": [1, 2, 3], "b": [1, 2], "c": [1]}
    judge = Webhook(secret_text(key))
    for request in hook.requests:
        event = judge.verify(request.body, {k.lower(): v for k, v in request.headers.items()})
        assert request.headers["webhook-id"] == event["id"]
        assert request.headers["Content-Type"] == "application/cloudevents+json"
        assert event["data"]["customer"]["name"] == "Ada"


async def test_a_webhook_gets_what_its_grant_and_its_filter_allow(world: WebhookWorld) -> None:
    async with receiver() as hook:
        grant: GrantDocument = {**EVERYTHING, "merchants": ["m-1", "m-2"]}
        await world.register(hook.url, grant=grant, merchant_id=["m-2", "m-3"])
        await world.start_sender()
        for number in range(1, 4):
            await world.add(f"o-{number}", f"o-{number}", merchant=f"m-{number}")
        await world.add("o-2")
        await until(lambda: hook.count >= 3)

    assert dict(hook.taken) == {"o-2": [1, 2, 3]}


async def test_filters_by_type_and_status_leave_the_others_out(world: WebhookWorld) -> None:
    async with receiver() as created, receiver() as moved:
        await world.register(created.url, type=["order.created"])
        await world.register(moved.url, status=["in_transit"])
        await world.add("a", "a", "b", "a")
        await world.start_sender()
        await until(lambda: created.count == 2 and moved.count == 2)

    assert dict(created.taken) == {"a": [1], "b": [1]}
    assert dict(moved.taken) == {"a": [2, 3]}


async def test_a_webhook_of_a_link_to_orders_has_no_personal_data(world: WebhookWorld) -> None:
    async with receiver() as hook:
        await world.register(hook.url, grant={**EVERYTHING, "merchants": ["m-1"], "orders": ["a"]})
        await world.add("a", "b")
        await world.start_sender()
        await until(lambda: hook.count == 1)

    assert "customer" not in hook.requests[0].event["data"]
    assert b"contact" not in hook.requests[0].body


async def test_an_order_that_fails_holds_up_no_other_and_arrives_later_in_order(world: WebhookWorld) -> None:
    clock, healthy = Clock(), asyncio.Event()

    async def behave(event: Mapping[str, Any]) -> web.Response:
        return web.Response(status=500 if event["subject"] == "bad" and not healthy.is_set() else 200)

    async with receiver(behave) as hook:
        webhook_id, _ = await world.register(hook.url)
        await world.add("bad", "a", "bad", "b")
        sender = await world.start_sender(clock)
        await until(lambda: hook.count == 2)
        await world.add("a", "bad", "b")
        await until(lambda: hook.count == 4)

        async def is_failing() -> bool:
            stored = await world.stored(webhook_id)
            return stored["state"] == "failing" and len(stored["delayed"]) == 1

        await until(is_failing)
        end = Position((await world.position()).epoch, tuple(world.world.seqs))
        pending = await count_pending(world.database, await world.stored(webhook_id), end)
        healthy.set()
        clock.advance(HOUR)
        sender.wake()
        await until(lambda: hook.count == 7)
        await until(lambda: is_saved(world, webhook_id), seconds=40)

    assert hook.taken == {"a": [1, 2], "b": [1, 2], "bad": [1, 2, 3]}
    assert pending.events >= 3
    assert (await world.stored(webhook_id))["state"] == "active"


async def test_a_receiver_that_was_down_for_a_day_gets_everything_in_order(world: WebhookWorld) -> None:
    clock = Clock()
    orders = [f"o-{number}" for number in range(20)]
    async with receiver() as hook, receiver() as other:
        webhook_id, _ = await world.register(hook.url)
        await world.register(other.url)
        await world.add(*orders)
        sender = await world.start_sender(clock)
        await until(lambda: hook.count == 20)
        await hook.stop()
        for hour in range(1, 25):
            await world.add(*orders)
            await until(lambda hour=hour: other.count == 20 + 20 * hour)  # type: ignore[misc]
            clock.advance(HOUR)
            sender.wake()
        await hook.start()

        def has_all() -> bool:
            clock.advance(HOUR / 60)  # the newest attempt may have failed just now
            sender.wake()
            return hook.count >= 25 * 20

        await until(has_all)
        await until(lambda: is_saved(world, webhook_id), seconds=40)

    assert {tuple(versions) for versions in hook.taken.values()} == {tuple(versions_through(25))}
    assert {tuple(versions) for versions in other.taken.values()} == {tuple(versions_through(25))}


async def test_after_three_days_it_is_disabled_and_has_skipped_nothing(world: WebhookWorld) -> None:
    clock = Clock()
    hook = Receiver()
    await hook.start()
    await hook.stop()
    webhook_id, _ = await world.register(hook.url)
    await world.add("a", "b")
    sender = await world.start_sender(clock)

    async def is_disabled() -> bool:
        clock.advance(HOUR)
        sender.wake()
        return (await world.stored(webhook_id))["state"] == "disabled"

    began = clock.now
    await until(is_disabled, seconds=60)
    stored = await world.stored(webhook_id)

    assert stored["reason"] == "failed-too-long"
    assert stored["seqs"] == [0, 0, 0, 0]
    assert clock.now - began >= 72 * HOUR


async def test_a_receiver_that_is_gone_is_asked_once(world: WebhookWorld) -> None:
    async def gone(event: Mapping[str, Any]) -> web.Response:
        return web.Response(status=410)

    async with receiver(gone) as hook:
        webhook_id, _ = await world.register(hook.url)
        await world.add("a", "b")
        await world.start_sender()

        async def is_disabled() -> bool:
            return (await world.stored(webhook_id))["state"] == "disabled"

        await until(is_disabled)
        await world.add("a")

    assert len(hook.requests) == 1
    assert (await world.stored(webhook_id))["reason"] == "gone"


async def test_a_retry_after_of_the_receiver_is_heeded(world: WebhookWorld) -> None:
    clock = Clock()
    answers = iter([web.Response(status=503, headers={"Retry-After": "600"})])

    async def behave(event: Mapping[str, Any]) -> web.Response:
        return next(answers, None) or web.Response()

    async with receiver(behave) as hook:
        await world.register(hook.url)
        await world.add("a")
        sender = await world.start_sender(clock)
        await until(lambda: len(hook.requests) == 1)
        clock.advance(599)
        sender.wake()
        await asyncio.sleep(0.3)  # nothing is to happen in it
        early = len(hook.requests)
        clock.advance(2)
        sender.wake()
        await until(lambda: hook.count == 1)

    assert early == 1


async def test_a_restart_misses_nothing_and_repeats_little(world: WebhookWorld) -> None:
    async with receiver() as hook:
        webhook_id, _ = await world.register(hook.url)
        sender = await world.start_sender()
        await world.add("a", "b", "a")
        await until(lambda: hook.count == 3)
        await world.stop_sender(sender)
        await world.add("a", "b", "c")
        stopped_at = hook.count
        await world.start_sender()
        await until(lambda: hook.count >= 6)
        await until(lambda: is_saved(world, webhook_id), seconds=40)

    assert stopped_at == 3
    assert dict(hook.taken) == {"a": [1, 2, 3], "b": [1, 2], "c": [1]}


async def test_replicas_share_the_webhooks_and_take_over_from_one_that_stops(world: WebhookWorld) -> None:
    async with receiver() as hook:
        ids = [(await world.register(hook.url, order_id=[f"o-{number}"]))[0] for number in range(12)]
        first, second = await world.start_sender(), await world.start_sender()

        async def both_have_some() -> bool:
            senders = {(await world.stored(webhook_id))["sender"] for webhook_id in ids}
            return None not in senders and len(senders) == 2

        await until(both_have_some)
        await world.add(*(f"o-{number}" for number in range(12)))
        await until(lambda: hook.count == 12)
        await world.stop_sender(second)
        await world.add(*(f"o-{number}" for number in range(12)))
        await until(lambda: hook.count == 24)
        del first

    assert {tuple(versions) for versions in hook.taken.values()} == {(1, 2)}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["take", "keys", "add_attempts", "save"])
async def test_whatever_a_replica_was_doing_when_it_ended_another_goes_on(
    world: WebhookWorld, step: str, after: bool
) -> None:
    async with receiver() as hook:
        webhook_id, _ = await world.register(hook.url)
        await world.add("a", "b", "a", "c")
        store = FreezingStore(world.database, step, after=after)
        await world.start_sender(store=store)
        await until(store.frozen.is_set)
        # As the others see it when its lease is over.
        await world.database.webhook_senders.delete_many({})
        await world.start_sender()
        await world.add("a", "b")
        await until(lambda: is_saved(world, webhook_id), seconds=60)
        store.ended.set()

    expected = {"a": [1, 2, 3], "b": [1, 2], "c": [1]}
    assert {name: list(dict.fromkeys(versions)) for name, versions in hook.taken.items()} == expected


async def test_who_is_revoked_gets_nothing_more(world: WebhookWorld) -> None:
    async with receiver() as hook:
        webhook_id, _ = await world.register(hook.url)
        sender = await world.start_sender()
        await world.add("a")
        await until(lambda: hook.count == 1)
        await revoke_subject(world.database, "shop", issued_before=now())

        async def is_disabled() -> bool:
            return (await world.stored(webhook_id))["reason"] == "revoked"

        await until(is_disabled)
        await world.add("a", "b")
        sender.wake()
        await asyncio.sleep(0.3)  # nothing is to happen in it

    assert dict(hook.taken) == {"a": [1]}


async def test_a_person_that_was_erased_meanwhile_is_not_in_a_late_delivery(world: WebhookWorld) -> None:
    clock, healthy = Clock(), asyncio.Event()

    async def behave(event: Mapping[str, Any]) -> web.Response:
        return web.Response(status=200 if healthy.is_set() else 500)

    async with receiver(behave) as hook:
        await world.register(hook.url)
        await world.add("a", "b")
        sender = await world.start_sender(clock)
        await until(lambda: len(hook.requests) >= 2)
        erased = {"$set": {"customer": None, "erased_at": now()}}
        await world.database.order_events.update_many({}, erased)
        before = len(hook.requests)
        healthy.set()
        clock.advance(HOUR)
        sender.wake()
        await until(lambda: hook.count == 2)

    assert b"contact-" in hook.requests[0].body
    for request in hook.requests[before:]:
        assert b"contact-" not in request.body
        assert request.event["data"]["customer"] is None


async def test_a_slow_receiver_with_a_long_log_costs_bounded_memory_and_its_pending_is_true(
    world: WebhookWorld,
) -> None:
    release = asyncio.Event()

    async def behave(event: Mapping[str, Any]) -> web.Response:
        await release.wait()
        return web.Response()

    async with receiver(behave) as hook, receiver() as other:
        webhook_id, _ = await world.register(hook.url)
        other_id, _ = await world.register(other.url, merchant_id=["m-9"])
        sender = await world.start_sender()
        for _ in range(20):
            for number in range(200):
                world.world.apply(
                    f"o-{number}",
                    "in_transit" if f"o-{number}" in world.world.orders else "created",
                    world.at,
                    {"merchant_id": "m-1", "customer": {"name": "Ada", "contact_ref": "c"}},
                )
            await world.flush()
        await world.add("last", merchant="m-9")
        await until(lambda: other.count == 1)
        running = sender.assignment._running[webhook_id].endpoint.progress
        window = MAX_WINDOW_EVENTS - running.room
        end = Position((await world.position()).epoch, tuple(world.world.seqs))
        pending = await count_pending(world.database, await world.stored(webhook_id), end)
        release.set()
        await until(lambda: hook.count == 4001, seconds=100)
        await until(lambda: is_saved(world, webhook_id), seconds=40)
        after = await count_pending(world.database, await world.stored(webhook_id), end)
        of_other = await count_pending(world.database, await world.stored(other_id), end)

    assert window <= MAX_WINDOW_EVENTS
    assert pending == Pending(4001, exact=True)
    assert after == Pending(0, exact=True)
    assert of_other.events <= 1
    assert hook.most_concurrent <= MAX_IN_FLIGHT
    assert {tuple(hook.taken[f"o-{number}"]) for number in range(200)} == {tuple(versions_through(20))}


async def test_dead_receivers_delay_no_others(world: WebhookWorld) -> None:
    async def silent(event: Mapping[str, Any]) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with receiver(silent) as dead, receiver() as hook:
        for number in range(20):
            await world.register(dead.url, order_id=[f"o-{number}", f"p-{number}"])
        for number in range(40):
            await world.register(hook.url, order_id=[f"o-{number}"])
        await world.add(*(f"o-{number}" for number in range(40)))
        await world.start_sender()
        await until(lambda: hook.count == 40, seconds=10)
        await world.add(*(f"o-{number}" for number in range(40)))
        await until(lambda: hook.count == 80, seconds=5)


async def test_attempts_are_kept_and_bounded(world: WebhookWorld) -> None:
    async with receiver() as hook:
        webhook_id, _ = await world.register(hook.url)
        await world.add(*(f"o-{number % 30}" for number in range(300)))
        await world.start_sender()
        await until(lambda: hook.count == 300)
        await until(lambda: is_saved(world, webhook_id), seconds=40)
    found = await world.database.webhook_attempts.find({"webhook_id": webhook_id}).to_list()

    assert 0 < len(found) <= 200
    assert {(one["outcome"], one["status"]) for one in found} == {("delivered", 204)}
    assert b"contact" not in orjson.dumps([{k: str(v) for k, v in one.items()} for one in found])


async def test_a_webhook_that_is_changed_goes_on_with_the_change(world: WebhookWorld) -> None:
    async with receiver() as old, receiver() as new:
        webhook_id, _ = await world.register(old.url)
        await world.start_sender()
        await world.add("a")
        await until(lambda: old.count == 1)
        await world.database.webhooks.update_one(
            {"_id": webhook_id}, {"$set": {"url": new.url}, "$inc": {"fence": 1}}
        )

        async def is_taken_again() -> bool:
            stored = await world.stored(webhook_id)
            return stored["fence"] >= 3

        await until(is_taken_again)
        await world.add("a")
        # What was not saved as delivered before the change is repeated.
        await until(lambda: 2 in new.taken["a"])

    assert new.taken["a"] in ([2], [1, 2])
    assert old.taken == {"a": [1]}


async def test_a_webhook_that_is_deleted_gets_nothing_more(world: WebhookWorld) -> None:
    async with receiver() as hook:
        webhook_id, _ = await world.register(hook.url)
        sender = await world.start_sender()
        await world.add("a")
        await until(lambda: hook.count == 1)
        await world.database.webhooks.delete_one({"_id": webhook_id})
        await until(lambda: webhook_id not in sender.assignment._running)
        await world.add("a")
        await asyncio.sleep(0.3)  # nothing is to happen in it

    assert hook.taken == {"a": [1]}
