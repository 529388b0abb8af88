"""The rules of deliveries: order by order, nothing skipped, no order held up by another one, and waits."""

from collections import defaultdict
from datetime import UTC, datetime
from math import inf
from random import Random
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webhook_memory import MemoryWorld

from tracking_shared.contracts.documents import EventDocument
from tracking_webhooks.adapters.progress_document import progress_of
from tracking_webhooks.domain.backoff import GIVE_UP_SECONDS, MAX_WAIT_SECONDS, wait_seconds
from tracking_webhooks.domain.outcome import failure_of
from tracking_webhooks.domain.progress import MAX_WINDOW_EVENTS, Delayed, Failure, Missed, Progress, Work

HALF = 0.5


def event(order_id: str, version: int, seq: int, partition: int = 0) -> EventDocument:
    document: Any = {"order_id": order_id, "version": version, "seq": seq, "partition": partition}
    return cast(EventDocument, document)


def new_progress(**members: Any) -> Progress:
    return Progress(**{"seqs": [0], "chance": lambda: HALF} | members)


def log_of(*orders: str) -> list[EventDocument]:
    """A log of one partition: one event for each name, with versions of its order."""
    versions: dict[str, int] = defaultdict(int)
    found = []
    for seq, order_id in enumerate(orders, start=1):
        versions[order_id] += 1
        found.append(event(order_id, versions[order_id], seq))
    return found


def version_of(work: Work | None) -> tuple[str, int]:
    assert work is not None
    assert work.entry is not None
    return work.order_id, work.entry.event["version"]


def test_an_order_has_one_event_in_flight_and_the_next_one_follows_its_success() -> None:
    progress = new_progress()
    progress.add(0, log_of("a", "a"), 2, 0)

    first = progress.next_work(0)
    assert version_of(first) == ("a", 1)
    assert progress.next_work(0) is None
    assert first is not None
    progress.succeeded(first, 1, 0)

    assert version_of(progress.next_work(0)) == ("a", 2)
    assert progress.seqs == [1]


def test_more_requests_are_in_flight_after_each_success() -> None:
    progress = new_progress()
    progress.add(0, log_of(*"abcdefghijklmnop"), 16, 0)
    first = progress.next_work(0)
    assert first is not None
    progress.succeeded(first, 1, 0)

    started = [progress.next_work(0) for _ in range(3)]

    assert [work is not None for work in started] == [True, True, False]


def test_events_of_others_move_the_cursor() -> None:
    progress = new_progress()

    progress.add(0, [], 17, 0)

    assert progress.seqs == [17]
    assert progress.next_at() == inf


def test_an_order_that_fails_holds_up_no_other_one_and_lets_the_cursor_go_on() -> None:
    progress = new_progress()
    progress.add(0, log_of("a", "b", "a"), 3, 0)
    work = progress.next_work(0)
    assert work is not None
    progress.failed(work, 1, Failure.EVENT, 0)

    other = progress.next_work(0)
    assert version_of(other) == ("b", 1)
    assert other is not None
    progress.succeeded(other, 1, 0)

    assert progress.seqs == [3]
    assert progress.state == "failing"
    assert progress.next_work(0) is None
    assert progress.next_at() == pytest.approx(5.0)
    assert progress.next_work(5.0) == Work("a")


def test_a_delayed_order_goes_on_with_the_window_once_the_log_has_no_more_of_it() -> None:
    progress = new_progress(delayed={"a": Delayed("a", 0, 1, 1, 0.0, 5.0)})
    work = progress.next_work(5)
    assert work is not None
    progress.succeeded(work, 1, 5)
    progress.add(0, [event("a", 2, 1)], 1, 5)  # left to the delayed order

    reading = progress.next_work(5)
    assert reading is not None
    progress.add(0, [event("a", 3, 2)], 2, 5)  # read from the log too late for that look-up
    progress.found_nothing(reading)
    assert "a" in progress.delayed
    again = progress.next_work(5)
    assert again is not None
    progress.found_nothing(again)

    assert progress.state == "active"
    progress.add(0, [event("a", 4, 3)], 3, 5)
    assert version_of(progress.next_work(5)) == ("a", 4)


def test_where_too_many_orders_are_delayed_the_cursor_stops_and_nothing_is_skipped() -> None:
    progress = new_progress(max_delayed=1)
    progress.add(0, log_of("a", "b", "c"), 3, 0)
    for _ in range(2):
        work = progress.next_work(0)
        assert work is not None
        progress.failed(work, 1, Failure.EVENT, 0)

    last = progress.next_work(0)
    assert version_of(last) == ("c", 1)
    assert last is not None
    progress.succeeded(last, 1, 0)

    assert list(progress.delayed) == ["a"]
    assert progress.seqs == [1]
    assert progress.next_work(5.0) == Work("a")


def test_an_endpoint_that_cannot_be_reached_pauses_as_a_whole() -> None:
    progress = new_progress()
    progress.add(0, log_of("a", "b"), 2, 0)
    work = progress.next_work(0)
    assert work is not None

    progress.failed(work, 1, Failure.ENDPOINT, 0)

    assert progress.next_work(4.9) is None
    assert not progress.delayed
    assert progress.seqs == [0]
    assert progress.next_at() == pytest.approx(5.0)
    # Another order is tried next: the first one may be at fault.
    assert version_of(progress.next_work(5.0)) == ("b", 1)


def test_a_retry_after_is_heeded() -> None:
    progress = new_progress()
    progress.add(0, log_of("a"), 1, 0)
    work = progress.next_work(0)
    assert work is not None

    progress.failed(work, 1, Failure.ENDPOINT, 0, retry_after=120)

    assert progress.next_at() == pytest.approx(120)


@pytest.mark.parametrize("failure", [Failure.EVENT, Failure.ENDPOINT])
def test_a_webhook_that_failed_for_three_days_is_disabled_where_it_stands(failure: Failure) -> None:
    progress = new_progress()
    progress.add(0, log_of("a", "b"), 2, 0)
    now = 0.0
    attempts = 0
    while progress.disabled is None:
        now = max(now, progress.next_at())
        work = progress.next_work(now)
        assert work is not None
        version = 1
        progress.failed(work, version, failure, now)
        attempts += 1

    assert progress.disabled == "failed-too-long"
    assert GIVE_UP_SECONDS <= now <= GIVE_UP_SECONDS + MAX_WAIT_SECONDS
    assert attempts < 300
    assert progress.next_at() == inf
    assert progress.seqs == ([2] if failure is Failure.EVENT else [0])


def test_the_answer_gone_disables_at_once() -> None:
    progress = new_progress()
    progress.add(0, log_of("a"), 1, 0)
    work = progress.next_work(0)
    assert work is not None

    progress.failed(work, 1, failure_of(410, None, asked_to_wait=False), 0)

    assert (progress.state, progress.disabled, progress.seqs) == ("disabled", "gone", [0])


def test_the_window_is_bounded() -> None:
    progress = new_progress()
    count = progress.room
    progress.add(0, log_of(*(f"o{number}" for number in range(count))), count, 0)

    assert count == MAX_WINDOW_EVENTS
    assert progress.room == 0


def test_when_one_failed_order_is_delivered_the_others_are_tried_soon() -> None:
    delayed = {name: Delayed(name, 0, 1, 9, 0.0, at) for name, at in (("a", 10.0), ("b", 3000.0))}
    progress = new_progress(delayed=delayed)
    work = progress.next_work(10)
    assert work is not None

    progress.succeeded(work, 1, 10)

    assert progress.delayed["b"].next_at == pytest.approx(10 + 15)


@given(st.integers(1, 60), st.floats(0, 1), st.floats(0, 1))
def test_each_wait_is_longer_than_the_one_before_up_to_an_hour(
    failures: int, chance: float, later: float
) -> None:
    wait, next_wait = wait_seconds(failures, None, chance), wait_seconds(failures + 1, None, later)

    assert 4 <= wait <= MAX_WAIT_SECONDS
    assert next_wait > wait or failures >= 9


@pytest.mark.parametrize(
    ("status", "error", "asked_to_wait", "expected"),
    [
        (500, None, False, Failure.EVENT),
        (302, None, False, Failure.EVENT),
        (404, None, False, Failure.EVENT),
        (503, None, False, Failure.EVENT),
        (503, None, True, Failure.ENDPOINT),
        (429, None, False, Failure.ENDPOINT),
        (410, None, False, Failure.GONE),
        (None, "timeout", False, Failure.EVENT),
        (None, "protocol", False, Failure.EVENT),
        (None, "connection", False, Failure.ENDPOINT),
        (None, "certificate", False, Failure.ENDPOINT),
        (None, "address", False, Failure.ENDPOINT),
    ],
)
def test_what_an_answer_means(
    status: int | None, error: str | None, asked_to_wait: bool, expected: Failure
) -> None:
    assert failure_of(status, error, asked_to_wait=asked_to_wait) is expected


class World:
    """A log, a receiver that fails as it is told, and a sender that crashes and starts again from what it
    has saved.
    """

    def __init__(self, orders: list[str], draw: Random, max_delayed: int) -> None:
        self.log = log_of(*orders)
        self.draw = draw
        self.max_delayed = max_delayed
        self.now = 0.0
        self.received: dict[str, list[int]] = defaultdict(list)
        self.in_flight: list[tuple[Work, EventDocument | None]] = []
        self.progress = new_progress(max_delayed=max_delayed, chance=draw.random)
        self.saved: dict[str, Any] = {}
        self.save()

    def save(self) -> None:
        progress = self.progress
        delayed = [
            (one.order_id, one.partition, one.version, one.failures, one.since, one.next_at)
            for one in progress.delayed_orders()
        ]
        self.saved = {
            "seqs": list(progress.seqs),
            "delayed": delayed,
            "failures": progress.failures,
            "failing_since": progress.failing_since,
            "resume_at": progress.resume_at,
        }

    def crash(self) -> None:
        members = self.saved | {"delayed": {one[0]: Delayed(*one) for one in self.saved["delayed"]}}
        members["seqs"] = list(members["seqs"])
        self.progress = new_progress(max_delayed=self.max_delayed, chance=self.draw.random, **members)
        self.in_flight.clear()

    def read(self) -> None:
        after = self.progress.read[0]
        events = self.log[after : after + min(self.progress.room, self.draw.randint(1, 5))]
        if events:
            self.progress.add(0, events, events[-1]["seq"], self.now)

    def begin(self) -> bool:
        work = self.progress.next_work(self.now)
        if work is None:
            return False
        # The log is read now, and what it says arrives later.
        found = work.entry.event if work.entry else self.next_of_order(work.order_id)
        self.in_flight.append((work, found))
        return True

    def next_of_order(self, order_id: str) -> EventDocument | None:
        version = self.progress.delayed[order_id].version
        known = self.log[: self.progress.read[0]]
        return next((e for e in known if e["order_id"] == order_id and e["version"] >= version), None)

    def end(self, *, healthy: bool) -> None:
        if not self.in_flight:
            return
        work, found = self.in_flight.pop(self.draw.randrange(len(self.in_flight)))
        if found is None:
            self.progress.found_nothing(work)
            return
        fate = 0.0 if healthy else self.draw.random()
        if fate < 0.6:
            self.received[found["order_id"]].append(found["version"])
        if fate < 0.5:
            self.progress.succeeded(work, found["version"], self.now)
        else:  # between the two: it was taken, and the answer lost
            failure = Failure.EVENT if self.draw.random() < 0.8 else Failure.ENDPOINT
            self.progress.failed(work, found["version"], failure, self.now)

    def pass_time(self) -> None:
        at = self.progress.next_at()
        self.now = max(self.now, at) if at < inf else self.now + 1

    def finish(self) -> None:
        for _ in range(10_000):
            self.read()
            if self.begin():
                continue
            if self.in_flight:
                self.end(healthy=True)
            elif self.progress.seqs == [len(self.log)] and not self.progress.delayed:
                return
            else:
                self.pass_time()
        raise AssertionError("it does not come to an end")


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=60),
    st.integers(0, 2**32),
    st.integers(1, 4),
    st.sampled_from([0, 20, 100, 500]),
)
def test_every_order_is_received_whole_and_in_order_whatever_fails(
    orders: list[str], seed: int, max_delayed: int, steps: int
) -> None:
    world = World(orders, Random(seed), max_delayed)
    for _ in range(steps):
        step = world.draw.choice(("read", "begin", "end", "time", "save", "crash"))
        if step == "crash" and world.draw.random() < 0.7:
            continue
        if step == "end":
            world.end(healthy=False)
        elif step == "time":
            world.pass_time()
        else:
            getattr(world, step)()
        if world.progress.disabled:
            world.progress.disabled = None
            world.progress.failing_since = None
    world.finish()

    for order_id, versions in world.received.items():
        firsts = list(dict.fromkeys(versions))
        assert firsts == list(range(1, orders.count(order_id) + 1))
        # A repeat follows what it repeats: it is never ahead of a version that was not received yet.
    assert set(world.received) == set(orders)


def test_what_was_archived_is_counted_once_also_in_partitions_that_are_added_later() -> None:
    progress = new_progress()
    progress.missed_events(0, 5, 2, 0)
    progress.add_partitions(2)

    assert [progress.uncounted(partition, 0) for partition in (0, 1)] == [5, 0]
    progress.missed_events(1, 3, 1, 9)

    assert progress.missed == Missed(3, 9, (5, 3))


def test_the_count_of_what_was_archived_goes_on_after_partitions_were_added() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    webhook = MemoryWorld().register(
        "w", "http://receiver", seqs=[1, 0], missed={"events": 2, "at": at, "through": [5]}
    )

    progress = progress_of(webhook, lambda: HALF)

    assert [progress.uncounted(partition, 0) for partition in (0, 1)] == [5, 0]
