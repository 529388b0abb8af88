"""Events leave without waiting for the broker, and no more of them than it surely takes."""

import asyncio
from typing import Any

import pytest

from tracking_order_state import metrics
from tracking_order_state.adapters import result_publisher as event_publisher
from tracking_order_state.adapters.result_publisher import (
    MAX_UNCONFIRMED_BYTES,
    MAX_UNCONFIRMED_MESSAGES,
    EventPublisher,
)
from tracking_shared.messaging.errors import BrokerBlocked, BrokerUnavailable, PublishRefused


class SlowBroker:
    """Has every message, and confirms those that it is told to."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self._answers: list[asyncio.Future[None]] = []

    async def publish(self, routing_key: str, body: bytes, **options: Any) -> None:
        assert options["timeout_seconds"] is None
        self.sent.append(body)
        self._answers.append(asyncio.get_running_loop().create_future())
        await self._answers[-1]

    async def answer(self, number: int, error: Exception | None = None) -> None:
        if error is None:
            self._answers[number].set_result(None)
        else:
            self._answers[number].set_exception(error)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def publisher_to(broker: SlowBroker) -> EventPublisher:
    return EventPublisher(broker)  # type: ignore[arg-type]  # a fake


def dropped() -> float:
    return float(metrics.ANNOUNCEMENTS_DROPPED._value.get())


async def test_messages_leave_in_their_order_though_none_is_confirmed() -> None:
    broker = SlowBroker()
    publisher = publisher_to(broker)
    bodies = [str(number).encode() for number in range(MAX_UNCONFIRMED_MESSAGES)]
    for body in bodies:
        publisher.send(body)
    await asyncio.sleep(0)
    assert broker.sent == bodies


async def test_what_is_too_much_is_dropped_and_counted_until_the_oldest_is_confirmed() -> None:
    broker, before = SlowBroker(), dropped()
    publisher = publisher_to(broker)
    for _ in range(MAX_UNCONFIRMED_MESSAGES + 3):
        publisher.send(b"")
    await asyncio.sleep(0)
    assert (len(broker.sent), dropped() - before) == (MAX_UNCONFIRMED_MESSAGES, 3)
    await broker.answer(1)
    publisher.send(b"dropped, too: the oldest may be stuck, and what follows it")
    await broker.answer(0)
    publisher.send(b"taken")
    await asyncio.sleep(0)
    assert broker.sent[MAX_UNCONFIRMED_MESSAGES:] == [b"taken"]


async def test_large_messages_are_bounded_by_their_bytes() -> None:
    broker, before = SlowBroker(), dropped()
    publisher = publisher_to(broker)
    half = bytes(MAX_UNCONFIRMED_BYTES // 2)
    for _ in range(3):
        publisher.send(half)
    await asyncio.sleep(0)
    assert (len(broker.sent), dropped() - before) == (2, 1)
    await broker.answer(0)
    publisher.send(half)
    await asyncio.sleep(0)
    assert len(broker.sent) == 3


@pytest.mark.parametrize("harmless", [PublishRefused("full"), BrokerBlocked("alarm")])
async def test_a_queue_that_is_full_and_an_alarm_do_not_end_it(harmless: Exception) -> None:
    broker = SlowBroker()
    publisher = publisher_to(broker)
    publisher.send(b"1")
    await asyncio.sleep(0)
    await broker.answer(0, harmless)
    publisher.send(b"2")
    await asyncio.sleep(0)
    assert broker.sent == [b"1", b"2"]


async def test_a_lost_connection_is_told_at_the_next_message() -> None:
    broker = SlowBroker()
    publisher = publisher_to(broker)
    publisher.send(b"1")
    await asyncio.sleep(0)
    await broker.answer(0, BrokerUnavailable("gone"))
    with pytest.raises(BrokerUnavailable, match="gone"):
        publisher.send(b"2")


async def test_a_broker_that_never_confirms_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = publisher_to(SlowBroker())
    publisher.send(b"1")
    monkeypatch.setattr(event_publisher, "MAX_UNCONFIRMED_SECONDS", -1.0)
    with pytest.raises(BrokerUnavailable, match="has not confirmed"):
        publisher.send(b"2")
