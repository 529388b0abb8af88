"""The JavaScript client where WebSockets do not get through: it uses server-sent events, and says so."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from scripted_notifier import (
    EventStreamVisit,
    Script,
    ScriptedNotifier,
    Visit,
    closing,
    cutting,
    event,
    events,
    live,
    order,
    playing,
    scripted,
    snapshot,
)

from clients import OVER_HTTP, ClientProcess, following

SECRET = "a-secret-of-the-tests-0123456789abcdef"
ALWAYS = 1000
LIVE: Script = playing(live("c1"))


def token(*, ttl: float = 3600, **claims: Any) -> str:
    standard = {"sub": "viewer", "scope": "orders:read", "merchants": ["acme"], "exp": time.time() + ttl}
    return jwt.encode(standard | claims, SECRET, "HS256")


@asynccontextmanager
async def client_of(
    *scripts: Script, blocks: int = 0, name: str = "javascript", **options: Any
) -> AsyncIterator[tuple[ScriptedNotifier, ClientProcess]]:
    """A notifier behind a proxy that blocks so many WebSockets, and its client."""
    async with scripted(*scripts) as (url, notifier):
        notifier.blocks = blocks
        async with following(name, url, token(), **options) as client:
            yield notifier, client


def kinds(notifier: ScriptedNotifier) -> list[str]:
    """How the client came, each time that it got through."""
    return ["http" if isinstance(visit, EventStreamVisit) else "websocket" for visit in notifier.visits]


async def test_where_websockets_are_blocked_it_is_live_over_http_and_stays_there() -> None:
    first = cutting(snapshot(order("a", 1)), live("c1"))
    second = playing(events("c2", event("a", 2)), live("c2"))
    async with client_of(first, second, blocks=ALWAYS) as (notifier, client):
        await client.until_state("live", 2)
        assert (kinds(notifier), notifier.blocked) == (["http", "http"], 1)
        assert [request.get("after") for request in notifier.requests] == [None, "c1"]
        assert client.events == ["a:2"]
        transports = [status["transport"] for status in client.statuses]
        assert transports == ["websocket"] * 2 + ["event-stream"] * (len(transports) - 2)


@pytest.mark.parametrize(("blocks", "kind", "blocked"), [(1, "websocket", 1), (ALWAYS, "http", 2)])
async def test_only_websockets_that_fail_while_the_server_is_there_are_given_up(
    blocks: int, kind: str, blocked: int
) -> None:
    notifiers: list[ScriptedNotifier] = []

    async def cut_and_block(visit: Visit) -> None:
        await visit.say(snapshot(order("a", 1)), live("c1"))
        notifiers[0].blocks = blocks
        await visit.cut()

    async with client_of(cut_and_block, LIVE) as (notifier, client):
        notifiers.append(notifier)
        await client.until_state("live", 2)
        assert kinds(notifier)[-1] == kind
        assert notifier.requests[-1]["after"] == "c1"
        assert notifier.blocked == blocked


async def test_another_network_may_let_websockets_through() -> None:
    async with client_of(playing(snapshot(), live("c1")), LIVE, blocks=1) as (notifier, client):
        await client.until_state("live")
        await client.tell("window online")
        await client.until_state("live", 2)
        assert kinds(notifier) == ["http", "websocket"]


@pytest.mark.parametrize("transport", ["websocket", "event-stream"])
async def test_a_transport_that_was_chosen_is_kept(transport: str) -> None:
    blocks = 3 if transport == "websocket" else 0
    async with client_of(LIVE, blocks=blocks, transport=transport, snapshot=False) as (notifier, client):
        await client.until_state("live")
        assert {status["transport"] for status in client.statuses} == {transport}
        assert notifier.blocked == blocks


async def test_an_event_stream_is_replaced_before_its_token_expires() -> None:
    brief, fresh = token(ttl=5), token()
    first = playing(snapshot(order("a", 1)), live("c1"))
    second = playing(events("c2", event("a", 2)), live("c2"))
    async with (
        scripted(first, second) as (url, notifier),
        following(OVER_HTTP, url, [brief, fresh]) as client,
    ):
        await client.until_state("live", 2)
        assert [(request["token"], request.get("after")) for request in notifier.requests] == [
            (brief, None),
            (fresh, "c1"),
        ]
        assert client.states == ["connecting", "catching-up", "live"] * 2
        assert client.events == ["a:2"]


async def test_a_refused_token_is_final_if_there_is_no_other_over_http() -> None:
    async with (
        scripted(closing(4401, reason="It has expired.")) as (url, notifier),
        following(OVER_HTTP, url, token()) as client,
    ):
        status = await client.until_state("refused")
        assert (status["code"], status["reason"]) == (4401, "It has expired.")
        assert len(notifier.visits) == 1
