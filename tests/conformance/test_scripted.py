"""Both clients against a notifier that plays exact messages: what they hold, tell, ask for, how they end."""

import time
from datetime import datetime
from typing import Any

import jwt
import pytest
from scripted_notifier import (
    Document,
    Script,
    Visit,
    closing,
    cutting,
    event,
    events,
    live,
    order,
    playing,
    problem,
    resync,
    scripted,
    snapshot,
)

from clients import CLIENTS, COMMANDS, following
from tracking.devstack.processes import free_port

SECRET = "a-secret-of-the-tests-0123456789abcdef"

SUBSCRIBE = {"type": "subscribe", "heartbeat": True}


@pytest.fixture(params=CLIENTS)
def client_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=COMMANDS)
def language(request: pytest.FixtureRequest) -> str:
    """A client on a WebSocket, on which it may send messages, and which has close codes."""
    return str(request.param)


BRIEF = 5
"""Seconds that a token is valid which ends during a test: a busy machine needs some to start a client."""


def token(*, ttl: float = 6 * 3600, **claims: Any) -> str:
    """A token. Some are made when this module is imported, long before its tests run."""
    standard = {"sub": "viewer", "scope": "orders:read", "merchants": ["acme"], "exp": time.time() + ttl}
    return jwt.encode(standard | claims, SECRET, "HS256")


TOKEN = token()


async def test_a_snapshot_is_shown_when_its_last_page_is_there(language: str) -> None:
    async def two_pages(visit: Visit) -> None:
        await visit.say(snapshot(order("a", 1), more=True), snapshot(order("b", 1), more=True))
        assert await visit.hear() == {"type": "refresh", "token": fresh}  # a while later
        await visit.say(snapshot(order("a", 2), order("c", 1)), live("c1"))
        await visit.stay()

    brief, fresh = token(ttl=BRIEF), token()
    async with (
        scripted(two_pages) as (url, notifier),
        following(language, url, [brief, fresh], {"merchant_id": ["acme"]}) as client,
    ):
        await client.until_state("catching-up")
        assert (await client.report())["orders"] == {}
        await client.until_state("live")
        report = await client.report()
        assert report["orders"] == {"a": order("a", 2), "b": order("b", 1), "c": order("c", 1)}
        assert report["cursor"] == "c1"
        assert client.all("snapshot") == [{"reason": None}]
        wanted = SUBSCRIBE | {"filter": {"merchant_id": ["acme"]}, "snapshot": True}
        assert notifier.requests == [wanted | {"token": brief}]


async def test_half_a_snapshot_counts_for_nothing(client_name: str) -> None:
    first = cutting(snapshot(order("a", 1), order("gone", 1), more=True))
    second = playing(snapshot(order("a", 2)), live("c1"))
    async with (
        scripted(first, second) as (url, notifier),
        following(client_name, url, TOKEN) as client,
    ):
        await client.until_state("live")
        assert (await client.report())["orders"] == {"a": order("a", 2)}
        assert [request.get("after") for request in notifier.requests] == [None, None]
        assert client.all("snapshot") == [{"reason": None}]
        assert client.states == ["connecting", "catching-up", "waiting", "connecting", "catching-up", "live"]


async def test_events_that_the_snapshot_is_ahead_of_are_dropped(client_name: str) -> None:
    script = playing(
        snapshot(order("a", 3, "picked_up"), order("b", 5)),
        events("c1", event("a", 2, "delivered"), event("b", 6), event("a", 3, "created")),
        events("c2", event("a", 4, "in_transit")),
        live("c2"),
    )
    async with scripted(script) as (url, _), following(client_name, url, TOKEN) as client:
        await client.until_state("live")
        assert client.events == ["b:6", "a:4"]
        report = await client.report()
        assert report["orders"] == {"a": order("a", 4, "in_transit"), "b": order("b", 6, "picked_up")}
        assert report["gaps"] == 0


async def test_an_order_leaves_the_filter_and_comes_back(client_name: str) -> None:
    script = playing(
        snapshot(order("a", 1), order("b", 1)),
        live("c1"),
        events("c2", event("a", 2, "picked_up"), event("b", 2, "in_transit")),
        events("c3", event("a", 7, "created", "in_transit"), event("new", 1, "created")),
    )
    async with (
        scripted(script) as (url, _),
        following(client_name, url, TOKEN, {"status": ["created"]}) as client,
    ):
        await client.until(lambda it: len(it.events) == 4)
        assert client.events == ["a:2", "b:2", "a:7", "new:1"]
        report = await client.report()
        assert report["orders"] == {"a": order("a", 7), "new": order("new", 1)}
        assert report["gaps"] == 0


async def test_checkpoints_corrections_and_types_of_later_releases_leave_the_order_as_it_is_after_them(
    client_name: str,
) -> None:
    def told(entry: Document, kind: str, /, **more: str) -> Document:
        return entry | {"type": kind, "data": entry["data"] | more}

    script = playing(
        snapshot(order("a", 1), order("b", 4, "in_transit")),
        live("c1"),
        events(
            "c2",
            told(event("a", 2, "created", "created"), "order.checkpoint_added", kind="note", message="m"),
            told(event("b", 5, "delivered", "in_transit"), "order.status_changed"),
            told(event("b", 6, "in_transit", "delivered"), "order.corrected", reason="wrong parcel"),
            told(event("old", 9, "in_transit", "delivered"), "order.corrected", reason="wrong parcel"),
            told(event("a", 3, "created", "created"), "order.carried_by_pigeon", wings="two"),
        ),
    )
    async with scripted(script) as (url, _), following(client_name, url, TOKEN) as client:
        await client.until(lambda it: len(it.events) == 5)
        assert client.events == ["a:2", "b:5", "b:6", "old:9", "a:3"]
        report = await client.report()
        assert report["orders"] == {
            "a": order("a", 3),
            "b": order("b", 6, "in_transit"),
            "old": order("old", 9, "in_transit"),
        }
        assert report["gaps"] == 0, "an order that is corrected back into the filter was not missed"


@pytest.mark.parametrize(
    ("wanted", "held"),
    [
        ({}, {"a"}),
        ({"active": True}, {"a"}),
        ({"active": False}, {"b"}),
        ({"order_id": ["a", "b"]}, {"a", "b"}),
        ({"status": ["delivered"]}, {"b"}),
        ({"status": ["delivered", "picked_up"], "active": True}, {"a"}),
        ({"merchant_id": ["acme"]}, {"a"}),
    ],
)
async def test_only_orders_that_match_are_held(client_name: str, wanted: Document, held: set[str]) -> None:
    news = events("c1", event("a", 2, "picked_up"), event("b", 2, "delivered"))
    script = playing(snapshot(), news, live("c1"))
    async with scripted(script) as (url, _), following(client_name, url, TOKEN, wanted) as client:
        await client.until_state("live")
        assert client.events == ["a:2", "b:2"]
        assert (await client.report())["orders"].keys() == held


async def test_a_gap_is_counted_and_told_and_what_came_is_shown(client_name: str) -> None:
    script = playing(
        snapshot(order("a", 1), order("done", 1)),
        live("c1"),
        events("c2", event("a", 3, "in_transit"), event("done", 2, "delivered")),
        events("c3", event("unseen", 2, "in_transit", "picked_up")),  # its beginning did not match
        events("c4", event("unheld", 5, "in_transit", "in_transit")),  # its last event must have been missed
    )
    async with scripted(script) as (url, _), following(client_name, url, TOKEN) as client:
        await client.until(lambda it: len(it.events) == 4)
        report = await client.report()
        assert client.all("gap") == [
            {"order_id": "a", "after": 1, "version": 3},
            {"order_id": "unheld", "after": None, "version": 5},
        ]
        assert report["gaps"] == 2
        assert report["orders"]["a"] == order("a", 3, "in_transit")
        assert report["orders"].keys() == {"a", "unseen", "unheld"}


async def test_what_a_snapshot_may_have_overtaken_is_no_gap(client_name: str) -> None:
    script = playing(
        snapshot(order("a", 1)),
        events("c1", event("b", 4, "delivered", "created")),
        live("c1"),
    )
    async with scripted(script) as (url, _), following(client_name, url, TOKEN) as client:
        await client.until_state("live")
        assert client.events == ["b:4"]
        assert client.all("gap") == []


async def test_that_holds_after_a_reconnect_before_the_snapshot_was_caught_up_with(client_name: str) -> None:
    first = cutting(snapshot(order("a", 1)), events("c1", event("a", 2)))
    second = playing(live("c1"), events("c2", event("b", 4, "delivered", "picked_up")))
    async with scripted(first, second) as (url, _), following(client_name, url, TOKEN) as client:
        await client.until(lambda it: it.events == ["a:2", "b:4"])
        assert client.all("gap") == []


async def test_after_a_reconnect_it_goes_on_from_its_cursor_and_drops_repeats(client_name: str) -> None:
    first = cutting(snapshot(order("a", 4)), events("c1", event("a", 5), event("b", 1)))
    second = playing(
        events("c2", event("a", 4), event("a", 5), event("b", 1), event("b", 2)),
        events("c3", event("a", 6, "delivered")),
        live("c3"),
    )
    async with scripted(first, second) as (url, notifier), following(client_name, url, TOKEN) as client:
        await client.until_state("live")
        assert notifier.requests[1] == SUBSCRIBE | {"token": TOKEN, "filter": {}, "after": "c1"}
        assert client.events == ["a:5", "b:1", "b:2", "a:6"]
        report = await client.report()
        assert report["orders"] == {"b": order("b", 2, "picked_up")}
        assert (report["gaps"], report["connections"]) == (0, 2)


async def test_a_resync_replaces_everything_once_its_snapshot_is_whole(language: str) -> None:
    async def script(visit: Visit) -> None:
        await visit.say(snapshot(order("a", 1), order("old", 1)), live("c1"))
        await visit.say(resync("c9", "too-slow"), snapshot(order("a", 7), more=True))
        await visit.hear()
        await visit.say(snapshot(order("b", 1)), events("c10", event("a", 8)), live("c10"))
        await visit.stay()

    async with (
        scripted(script) as (url, _),
        following(language, url, [token(ttl=BRIEF), TOKEN]) as client,
    ):
        assert (await client.until_state("catching-up", 2))["reason"] == "too-slow"
        report = await client.report()
        assert report["orders"].keys() == {"a", "old"}
        assert report["cursor"] is None
        await client.until_state("live", 2)
        assert (await client.report())["orders"] == {"a": order("a", 8, "picked_up"), "b": order("b", 1)}
        assert client.all("snapshot") == [{"reason": None}, {"reason": "too-slow"}]


@pytest.mark.parametrize("options", [{}, {"snapshot": False}, {"after": "c0"}])
async def test_a_resync_that_is_cut_off_is_asked_for_again(client_name: str, options: Document) -> None:
    first = cutting(live("c1"), resync("c9"), snapshot(order("a", 7), more=True))
    second = playing(snapshot(order("b", 1)), live("c10"))
    async with (
        scripted(first, second) as (url, notifier),
        following(client_name, url, TOKEN, **options) as client,
    ):
        await client.until_state("live", 2)
        assert notifier.requests[1] == SUBSCRIBE | {"token": TOKEN, "filter": {}, "snapshot": True}
        assert (await client.report())["orders"] == {"b": order("b", 1)}
        assert client.all("snapshot") == [{"reason": "too-slow"}]


async def test_a_snapshot_that_nobody_asked_for_is_one_all_the_same(client_name: str) -> None:
    first = cutting(live("c1"), snapshot(order("a", 7), more=True))
    second = playing(snapshot(order("b", 1)), live("c10"))
    async with (
        scripted(first, second) as (url, notifier),
        following(client_name, url, TOKEN, after="c0") as client,
    ):
        await client.until_state("live", 2)
        assert notifier.requests[1].get("after") is None
        assert (await client.report())["orders"] == {"b": order("b", 1)}


@pytest.mark.parametrize(
    ("options", "asked"),
    [({"snapshot": False}, {"snapshot": False}), ({"after": "c0"}, {"after": "c0"})],
)
async def test_it_may_begin_without_a_snapshot(client_name: str, options: Document, asked: Document) -> None:
    script = playing(events("c1", event("a", 5), event("b", 2, "delivered", "in_transit")), live("c1"))
    async with (
        scripted(script) as (url, notifier),
        following(client_name, url, TOKEN, **options) as client,
    ):
        await client.until_state("live")
        assert notifier.requests == [SUBSCRIBE | {"token": TOKEN, "filter": {}} | asked]
        assert client.events == ["a:5", "b:2"]
        report = await client.report()
        assert report["orders"] == {"a": order("a", 5, "picked_up")}
        assert report["gaps"] == 0


@pytest.mark.parametrize("code", [4400, 4403, 4413])
async def test_a_final_close_code_ends_it(language: str, code: int) -> None:
    async with (
        scripted(closing(code, problem(), reason="no")) as (url, notifier),
        following(language, url, [TOKEN, token(sub="other")]) as client,
    ):
        status = await client.until_state("refused")
        assert (status["code"], status["problem"], status["retryAt"]) == (code, "/problems/forbidden", None)
        assert status["reason"] == "Not for you."
        assert (await client.report())["connections"] == len(notifier.visits) == 1
        assert client.states == ["connecting", "catching-up", "refused"]


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 4408, 4429, 4999])
async def test_every_other_close_code_asks_for_a_reconnect(language: str, code: int) -> None:
    first = closing(code, snapshot(order("a", 1)), live("c1"), problem(), reason="later")
    second = playing(live("c1"))
    async with scripted(first, second) as (url, notifier), following(language, url, TOKEN) as client:
        await client.until_state("live", 2)
        assert notifier.requests[1]["after"] == "c1"
        waiting = await client.until_state("waiting")
        assert waiting["code"] == code
        assert waiting["problem"] == "/problems/forbidden"
        assert len(client.all("problem")) == 1
        assert 0 < until(waiting) <= 0.25


def until(status: Document) -> float:
    """Seconds from now, or shortly before, to the announced attempt."""
    retry_at = datetime.fromisoformat(status["retryAt"]).timestamp()
    return max(0.001, retry_at - time.time())


async def test_a_refused_token_is_final_if_there_is_no_other(language: str) -> None:
    for source in (TOKEN, [TOKEN]):
        async with (
            scripted(closing(4401, reason="expired")) as (url, notifier),
            following(language, url, source) as client,  # type: ignore[arg-type]
        ):
            status = await client.until_state("refused")
            assert (status["code"], status["reason"]) == (4401, "closed with 4401 expired")
            assert len(notifier.visits) == 1


async def test_after_a_refused_token_a_fresh_one_is_tried(client_name: str) -> None:
    fresh = token()
    first = closing(4401, snapshot(order("a", 1)), live("c1"))
    async with (
        scripted(first, playing(live("c1"))) as (url, notifier),
        following(client_name, url, [TOKEN, fresh + "x"]) as client,
    ):
        await client.until_state("live", 2)
        assert [request["token"] for request in notifier.requests] == [TOKEN, fresh + "x"]


async def test_two_tokens_refused_at_once_are_final(language: str) -> None:
    tokens: list[str | None] = [token(jti=str(number)) for number in range(5)]
    async with (
        scripted(closing(4401, problem())) as (url, notifier),
        following(language, url, tokens) as client,
    ):
        await client.until_state("refused")
        assert [request["token"] for request in notifier.requests] == tokens[:2]


async def test_a_token_is_refreshed_before_it_expires(language: str) -> None:
    brief, next_brief, fresh = token(ttl=BRIEF), token(ttl=2 * BRIEF), token()

    async def script(visit: Visit) -> None:
        await visit.say(snapshot(), live("c1"))
        assert await visit.hear() == {"type": "refresh", "token": next_brief}
        assert time.time() < expiry_of(brief)
        assert await visit.hear() == {"type": "refresh", "token": fresh}
        assert expiry_of(brief) < time.time() < expiry_of(next_brief)
        await visit.say(events("c2", event("a", 1, "created")))
        await visit.stay()

    async with (
        scripted(script) as (url, notifier),
        following(language, url, [brief, next_brief, fresh]) as client,
    ):
        await client.until(lambda it: it.events == ["a:1"])
        assert len(notifier.visits) == 1
        assert client.states == ["connecting", "catching-up", "live"]


@pytest.mark.parametrize("answer", ["the same", "none"])
async def test_a_function_that_has_no_fresh_token_is_asked_again_in_time(language: str, answer: str) -> None:
    brief, fresh = token(ttl=2 * BRIEF), token()  # it asks again when an eighth of the lifetime is left

    async def script(visit: Visit) -> None:
        await visit.say(snapshot(), live("c1"))
        assert await visit.hear() == {"type": "refresh", "token": fresh}
        assert time.time() < expiry_of(brief)
        await visit.say(events("c2", event("a", 1, "created")))
        await visit.stay()

    tokens = [brief, brief if answer == "the same" else None, fresh]
    async with scripted(script) as (url, _), following(language, url, tokens) as client:
        await client.until(lambda it: it.events == ["a:1"])


def expiry_of(bearer: str) -> float:
    expires_at: float = jwt.decode(bearer, SECRET, ["HS256"], options={"verify_exp": False})["exp"]
    return expires_at


async def test_a_refused_refresh_is_told_and_ends_nothing(language: str) -> None:
    async def script(visit: Visit) -> None:
        await visit.say(snapshot(), live("c1"))
        await visit.hear()
        await visit.say(problem(), events("c2", event("a", 1, "created")))
        await visit.stay()

    async with (
        scripted(script) as (url, _),
        following(language, url, [token(ttl=BRIEF), TOKEN]) as client,
    ):
        await client.until(lambda it: it.events == ["a:1"])
        assert [told["type"] for told in client.all("problem")] == ["/problems/forbidden"]
        assert client.states == ["connecting", "catching-up", "live"]


async def test_a_token_that_cannot_be_had_now_is_asked_for_again(client_name: str) -> None:
    async with (
        scripted(playing(snapshot(), live("c1"))) as (url, notifier),
        following(client_name, url, [None, None, TOKEN]) as client,
    ):
        await client.until_state("live")
        assert client.states[:3] == ["connecting", "waiting", "connecting"]
        assert "there is none" in client.statuses[1]["reason"]
        assert len(notifier.visits) == 1


async def test_another_entitlement_asks_for_a_snapshot_instead_of_going_on(client_name: str) -> None:
    first = closing(4401, snapshot(order("a", 1)), live("c1"))
    second = playing(snapshot(order("b", 1)), live("c2"))
    wider = token(merchants=["acme", "zeta"])
    async with (
        scripted(first, second) as (url, notifier),
        following(client_name, url, [TOKEN, wider]) as client,
    ):
        await client.until_state("live", 2)
        assert notifier.requests[1] == SUBSCRIBE | {"token": wider, "filter": {}, "snapshot": True}
        assert (await client.report())["orders"].keys() == {"b"}
        assert client.all("snapshot") == [{"reason": None}, {"reason": "entitlement-changed"}]


async def test_what_it_does_not_know_is_ignored(client_name: str) -> None:
    script = playing(
        {"type": "weather", "forecast": ["rain"]},
        snapshot(order("a", 1)) | {"extra": 1},
        live("c1") | {"extra": {}},
        events("c2", event("a", 2) | {"extra": None}),
    )
    async with scripted(script) as (url, notifier), following(client_name, url, TOKEN) as client:
        await client.until(lambda it: it.events == ["a:2"])
        assert len(notifier.visits) == 1


async def test_a_message_without_events_moves_the_cursor_alone(client_name: str) -> None:
    first = cutting(snapshot(order("a", 1)), live("c1"), events("c2"))
    async with (
        scripted(first, playing(live("c2"))) as (url, notifier),
        following(client_name, url, TOKEN) as client,
    ):
        await client.until_state("live", 2)
        assert notifier.requests[1]["after"] == "c2"
        assert client.events == []


GARBAGE: dict[str, Any] = {
    "no JSON": "{",
    "no text": b'{"type":"live","cursor":"c9"}',
    "no object": "[]",
    "null": "null",
    "no type": "{}",
    "a type that is no text": '{"type": 7}',
    "live without a cursor": {"type": "live"},
    "events without a cursor": {"type": "events", "events": []},
    "events that are none": {"type": "events", "events": {}, "cursor": "c9"},
    "an event that is none": {"type": "events", "events": [event("b", 1), 7], "cursor": "c9"},
    "an event without data": {"type": "events", "events": [event("b", 1), {}], "cursor": "c9"},
    "an event without a version": events("c9", event("b", 1), {"data": {"order_id": "a"}}),
    "a version that is text": events(
        "c9", event("b", 1) | {"data": event("b", 1)["data"] | {"version": "1"}}
    ),
    "a page that is none": {"type": "snapshot", "orders": 1, "more": False},
    "an order without a status": {"type": "snapshot", "orders": [{"order_id": "b"}], "more": False},
    "resync without a reason": {"type": "resync", "cursor": "c9"},
    "problem without a problem": {"type": "problem"},
}


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_changes_nothing_and_ends_the_connection(client_name: str, garbage: str) -> None:
    async def first(visit: Visit) -> None:
        await visit.say(snapshot(order("a", 1)), live("c1"))
        message = GARBAGE[garbage]
        if isinstance(message, dict):
            await visit.say(message)
        else:
            await visit.say_raw(message)
        await visit.stay()

    async with (
        scripted(first, playing(live("c1"))) as (url, notifier),
        following(client_name, url, TOKEN) as client,
    ):
        await client.until_state("live", 2)
        assert notifier.requests[1]["after"] == "c1"
        assert (await client.report())["orders"] == {"a": order("a", 1)}
        assert client.events == []


@pytest.mark.parametrize("message", [live("c9"), events("c9", event("a", 2))])
async def test_a_snapshot_that_just_ends_is_garbage(client_name: str, message: Document) -> None:
    first = playing(snapshot(order("a", 1), more=True), message)
    second = playing(snapshot(order("b", 1)), live("c1"))
    async with scripted(first, second) as (url, notifier), following(client_name, url, TOKEN) as client:
        await client.until_state("live")
        assert "after" not in notifier.requests[1]
        assert (await client.report())["orders"].keys() == {"b"}


async def test_waits_grow_and_are_announced(client_name: str) -> None:
    async with following(client_name, f"ws://127.0.0.1:{free_port()}/v1/stream", TOKEN) as client:
        seen = []
        for times, longest in enumerate((0.25, 0.5, 1.0, 2.0), 1):
            waiting = await client.until_state("waiting", times)
            assert 0 < until(waiting) <= longest
            seen.append(until(waiting))
        assert seen[3] > 0.8  # half of the longest, less what the test took to see it
        assert client.states[:4] == ["connecting", "waiting", "connecting", "waiting"]


async def test_a_connection_that_is_dead_is_replaced(client_name: str) -> None:
    async def freeze(visit: Visit) -> None:
        await visit.say(snapshot(order("a", 1)), live("c1"))
        visit.socket.transport.pause_reading()  # nothing is answered any more, no ping and no close
        await visit.stay()

    async with (
        scripted(freeze, playing(live("c1"))) as (url, notifier),
        following(client_name, url, TOKEN, silence_seconds=1.0) as client,
    ):
        await client.until_state("live", 2)
        assert notifier.requests[1]["after"] == "c1"
        notifier.visits[0].socket.transport.abort()


async def test_it_stops_when_it_is_told(client_name: str) -> None:
    async with (
        scripted(playing(snapshot(order("a", 1)), live("c1"))) as (url, notifier),
        following(client_name, url, TOKEN) as client,
    ):
        await client.until_state("live")
        report = await client.tell("stop")
        assert (report["orders"], report["cursor"]) == ({"a": order("a", 1)}, "c1")
        await client.until_state("stopped")
        await notifier.visits[0].socket.wait_closed()
        assert notifier.visits[0].socket.close_code is not None
        assert client.states[-1] == "stopped"


LIVE: Script = playing(snapshot(order("a", 1)), live("c1"))


@pytest.mark.parametrize("news", ["window online", "window offline"])
async def test_a_browser_whose_network_changed_connects_anew(news: str) -> None:
    async with (
        scripted(LIVE, playing(live("c1"))) as (url, notifier),
        following("javascript", url, TOKEN) as client,
    ):
        await client.until_state("live")
        await client.tell(news)
        await client.until_state("live", 2)
        assert notifier.requests[1]["after"] == "c1"
        assert news.split()[1] in (await client.until_state("waiting"))["reason"]


async def test_a_browser_that_is_looked_at_again_does_not_wait_on() -> None:
    async with following("javascript", f"ws://127.0.0.1:{free_port()}/v1/stream", TOKEN) as client:
        await client.until_state("waiting", 4)
        await client.tell("document visible")
        again = await client.until_state("waiting", 5)
        assert "visible" in again["reason"]
        assert until(again) <= 0.25
