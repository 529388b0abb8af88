"""Orders are archived while clients are away: their positions expire, and nobody gets less in silence."""

import asyncio
from contextlib import suppress
from typing import Any, cast

import orjson
import pytest
from notifier_world import EPOCH, EVERYTHING, World, new_world

from callers import eventually
from tracking_notifier.errors import PositionExpired
from tracking_notifier.hub import Hub
from tracking_notifier.log.event_log import EventLog
from tracking_notifier.log.feed import Feed
from tracking_notifier.session.catchup import Subscription
from tracking_notifier.stream.events import Event
from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW


def grown() -> World:
    """A world of eight orders whose hub has all events, and none of them in memory."""
    world = new_world(window_bytes=0)
    for number in range(8):
        world.history.apply(f"o-{number}", "created")
    while tuple(world.taken) != world.history.seqs:
        world.take(0, 1)
    return world


def archive(world: World, seqs: tuple[int, int], *, noticed: bool = True) -> None:
    """Removes what is up to these positions. `noticed`: the hub knows where the log begins."""
    read_page = world.log.read_page

    async def read(partition: int, after: int, last: int) -> list[Event]:
        return [event for event in await read_page(partition, after, last) if event.seq > seqs[partition]]

    cast(Any, world.log).read_page = read
    if noticed:
        world.hub.log_start = Position(EPOCH, seqs)


async def told(world: World, after: tuple[int, ...]) -> list[dict[str, Any]]:
    subscription = Subscription(EVERYTHING, Position(EPOCH, after), snapshot=False)
    return [orjson.loads(message.body) async for message in world.catch_up(subscription)]


@pytest.mark.parametrize("noticed", [True, False], ids=["known", "found out"])
async def test_a_position_from_before_the_beginning_of_the_log_is_resynchronised(noticed: bool) -> None:
    world = grown()
    archive(world, world.history.seqs, noticed=noticed)
    resync, snapshot = await told(world, (0, 0))
    assert (resync["type"], resync["reason"]) == ("resync", "position-expired")
    assert len(snapshot["orders"]) == 8


async def test_a_position_at_the_beginning_of_the_log_goes_on() -> None:
    world = grown()
    start = (1, world.history.seqs[1] - 1)
    archive(world, start)
    messages = await told(world, start)
    assert {message["type"] for message in messages} == {"events"}
    events = [event for message in messages for event in message["events"]]
    assert len(events) == 8 - sum(start)


async def test_a_page_that_begins_before_the_log_is_shared_by_those_behind_its_beginning() -> None:
    world = grown()
    archive(world, (2, 2))
    behind = await world.pages.read_after(1, 0, 2, world.history.seqs[0])
    assert [event.seq for event in behind][:1] == [3]
    with pytest.raises(PositionExpired):
        await world.pages.read_after(1, 0, 1, world.history.seqs[0])


async def test_a_hub_that_missed_what_is_archived_begins_anew_at_the_end() -> None:
    world = grown()
    end = Position(EPOCH, world.history.seqs)
    hub = Hub(2, 0)
    hub.start(Position(EPOCH, (0, 0)))
    archive(world, world.history.seqs)
    prepared: list[str] = []

    async def prepare(epoch: str) -> None:
        prepared.append(epoch)

    feed = Feed(hub, cast(EventLog, world.log), DEFAULT_WORKFLOW, 2, prepare)

    async def has_reached_the_end() -> bool:
        return hub.position == end

    following = asyncio.create_task(feed.run())
    try:
        await eventually(has_reached_the_end)
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
    assert (hub.generation, prepared) == (2, [EPOCH])
