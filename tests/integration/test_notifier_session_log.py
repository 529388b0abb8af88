"""The log line that the notifier writes when a stream session ends."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from notifier_stack import Stage, StartService, eventually, new_order, notifier_stage, raw_client, subscribed

MARK = "stream session ended: "


@pytest.fixture
async def stage(start_service: StartService, service_environment: dict[str, str]) -> AsyncIterator[Stage]:
    async with notifier_stage(start_service, service_environment) as stage:
        yield stage


def lines(stage: Stage) -> list[dict[str, Any]]:
    """All lines of the notifier's log."""
    return [orjson.loads(line) for line in stage.notifier.log_path.read_bytes().splitlines()]


async def session_lines(stage: Stage, number: int) -> list[tuple[dict[str, Any], dict[str, str]]]:
    """So many lines of sessions, each with its facts."""

    def found() -> list[dict[str, Any]]:
        return [line for line in lines(stage) if line["message"].startswith(MARK)]

    async def logged() -> bool:
        return len(found()) >= number

    await eventually(logged)
    assert len(found()) == number
    return [
        (line, dict(fact.split("=", 1) for fact in line["message"].removeprefix(MARK).split()))
        for line in found()
    ]


async def test_a_session_is_logged_with_what_it_was_sent_and_without_any_name(stage: Stage) -> None:
    order = new_order()
    token = stage.token(sub="ada@example.com", merchants=["acme-secret"])
    async with subscribed(stage.url, token) as client:
        await stage.stub.commit((order, "acme-secret", "created"), (order, "acme-secret", "picked_up"))
        await client.events(2)
        await stage.stub.commit((new_order(), "other", "created"))
        await client.socket.close()
    [(line, facts)] = await session_lines(stage, 1)
    assert line["level"] == "info"
    assert len(line["trace_id"]) == 32
    assert facts["subject"] == hashlib.sha256(b"ada@example.com").hexdigest()[:16]
    assert {name: facts[name] for name in ("from", "events", "resyncs", "subscriptions", "close_code")} == {
        "from": "snapshot",
        "events": "2",
        "resyncs": "0",
        "subscriptions": "1",
        "close_code": "1000",
    }
    assert (facts["token_merchants"], facts["token_orders"], facts["merchants"]) == ("1", "any", "any")
    assert 0 <= float(facts["seconds"]) < 60
    assert sum(map(int, facts["to"].split(","))) >= 2
    text = stage.notifier.log_path.read_text()
    assert not any(name in text for name in ("ada@example.com", "acme-secret", order, token))


async def test_missed_events_are_counted_from_the_cursor_on(stage: Stage) -> None:
    async with raw_client(stage.url) as client:
        await client.send(type="subscribe", token=stage.token(), snapshot=False)
        [live] = await client.until("live")
    order = new_order()
    await stage.stub.commit(*[(order, "acme", "in_transit")] * 3)
    async with raw_client(stage.url) as client:
        await client.send(type="subscribe", token=stage.token(), after=live["cursor"])
        messages = await client.until("live")
        missed = sum(len(message.get("events", ())) for message in messages)
        await client.events(3 - missed)  # those that the notifier did not have yet come live
    (_, first), (_, second) = await session_lines(stage, 2)
    assert (first["from"], first["events"]) == ("now", "0")
    assert (second["from"], second["events"]) == (f"cursor:{first['to']}", "3")


async def test_the_trace_id_of_a_problem_finds_the_line_of_its_session(stage: Stage) -> None:
    async with subscribed(stage.url, stage.token()) as client:
        await client.send(type="nonsense")
        code, _, messages = await client.closed()
    [(line, facts)] = await session_lines(stage, 1)
    assert code == 4400
    assert facts["close_code"] == "4400"
    assert line["trace_id"] == messages[-1]["problem"]["trace_id"]


async def test_a_session_without_a_subscription_has_only_the_line_of_its_problem(stage: Stage) -> None:
    async with raw_client(stage.url) as client:
        await client.send(type="subscribe", token="invalid")
        code, _, messages = await client.closed()
    assert code == 4401

    async def refused_and_gone() -> bool:
        return await stage.metric("tracking_stream_connections") == 0

    await eventually(refused_and_gone)
    trace_id = messages[-1]["problem"]["trace_id"]
    assert any(trace_id in line["message"] for line in lines(stage))
    assert not any(line["message"].startswith(MARK) for line in lines(stage))
