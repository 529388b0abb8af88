"""Asks for another number of partitions, and waits until order-state has changed it."""

import asyncio
from collections.abc import Callable
from typing import Any

from tracking.errors import CommandError
from tracking.upkeep.audit import audit_trail_of
from tracking.upkeep.record_reader import read_partitions, server_errors
from tracking_shared.contracts.layout import Layout, Switch, layout_of, refusal_of, switch_of, unchanged
from tracking_shared.storage.audit_trail import Act, Actor
from tracking_shared.storage.database import Database, DatabaseUnavailable, driver_errors, open_database

SETTINGS_ID = "partitions"

LOOK_SECONDS = 0.2

WAIT_SECONDS = 120
"""The time limit of the command. order-state goes on after it."""

PHASES = {
    "open": "the queues of the new partitions are declared; updates are taken as before",
    "fenced": "ingest takes no updates until those that it took are decided",
    "decided": "they are decided; the new partitions are created",
}


class NotRepartitioned(CommandError):
    """The number of partitions is not changed, or not yet. The message says why."""


async def repartition(
    mongodb_url: str, name: str, count: int, actor: Actor, show: Callable[[str], None]
) -> str:
    """Changes the number of partitions for new orders. An interrupted change is followed to its end.

    Raises:
        NotRepartitioned: it cannot be done, or is not done in time.
        NoInstallation: the database holds no installation.
    """
    with server_errors(NotRepartitioned):
        async with open_database(mongodb_url, name) as database:
            await read_partitions(database)
            layout, switch = await _state(database)
            if switch is None:
                if layout.counts[-1] == count:
                    return f"{count} partitions for new orders already, {layout.partitions} in all"
                await _request(database, layout, count, actor)
            elif switch.count != count:
                raise NotRepartitioned(
                    f"a change to {switch.count} partitions is under way; wait for its end, or cancel it"
                )
            return await _followed(database, layout, show)


async def cancel_repartition(mongodb_url: str, name: str, actor: Actor) -> str:
    """Cancels a change that has not begun: updates are taken, and nothing refers to the new partitions.

    Raises:
        NotRepartitioned: there is none, or it has begun.
        NoInstallation: the database holds no installation.
    """
    with server_errors(NotRepartitioned):
        async with open_database(mongodb_url, name) as database:
            await read_partitions(database)
            layout, switch = await _state(database)
            if switch is None:
                raise NotRepartitioned("no change of the number of partitions is under way")
            if switch.phase != "open" or not await _cancel(database, layout, switch, actor):
                raise NotRepartitioned(f"the change to {switch.count} partitions has begun; wait for its end")
            return f"the change to {switch.count} partitions is cancelled"


async def _cancel(database: Database, layout: Layout, switch: Switch, actor: Actor) -> bool:
    details = {"from": layout.counts[-1], "to": switch.count}
    await audit_trail_of(database).record(actor, Act("partitions.cancelled", str(switch.count), details))
    # order-state compares the same when it begins: only one of the two is done.
    waiting = {"_id": SETTINGS_ID} | unchanged(switch)
    with driver_errors():
        result = await database.raw["settings"].update_one(waiting, {"$unset": {"switch": ""}})
    return result.modified_count == 1


async def _state(database: Database) -> tuple[Layout, Switch | None]:
    with driver_errors():
        settings: dict[str, Any] | None = await database.raw["settings"].find_one({"_id": SETTINGS_ID})
    if settings is None:
        raise DatabaseUnavailable("the settings were removed")
    return layout_of(settings), switch_of(settings)


async def _request(database: Database, layout: Layout, count: int, actor: Actor) -> None:
    if (reason := refusal_of(layout, count)) is not None:
        raise NotRepartitioned(reason)
    form = await database.form_of_outcomes()
    if form is None or not form["migrated"]:
        raise NotRepartitioned("the outcomes of an earlier release are still being migrated; try later")
    details = {"from": layout.counts[-1], "to": count}
    await audit_trail_of(database).record(actor, Act("partitions.changed", str(count), details))
    switch = {"count": count, "phase": "open", "attempt": 0}
    counts = list(layout.counts) if layout.generation else {"$exists": False}
    known = {"_id": SETTINGS_ID, "counts": counts, "switch": {"$exists": False}}
    with driver_errors():
        result = await database.raw["settings"].update_one(known, {"$set": {"switch": switch}})
    if result.modified_count == 0:
        raise NotRepartitioned("another change was asked for at the same time; run the command again")


async def _followed(database: Database, before: Layout, show: Callable[[str], None]) -> str:
    shown = ""
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                layout, switch = await _state(database)
                if layout != before:
                    return f"{layout.counts[-1]} partitions for new orders, {layout.partitions} in all"
                if switch is None:
                    raise NotRepartitioned("the change was cancelled")
                if switch.phase != shown:
                    shown = switch.phase
                    show(PHASES[shown])
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        raise NotRepartitioned(
            f"not done within {WAIT_SECONDS} s; order-state goes on, and the same command follows it"
        ) from None
