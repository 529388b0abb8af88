"""Pages of the log: read once for all who ask, remembered within a bound, never mixed up."""

import asyncio
from typing import cast

import pytest
from notifier_samples import History

from tracking_notifier.log.event_log import EventLog
from tracking_notifier.log.shared_pages import SharedPages
from tracking_notifier.stream.events import Event, event_of
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.storage.database import DatabaseUnavailable


class SlowLog:
    """A log whose reads take their time, and may fail."""

    def __init__(self, events: int) -> None:
        history = History(partitions=1)
        for _ in range(events):
            history.apply("o-1", "in_transit")
        self.events = [event_of(document, DEFAULT_WORKFLOW) for document in history.log[0]]
        self.reads: list[tuple[int, int]] = []
        self.away = False

    async def read_page(self, _partition: int, after: int, through: int) -> list[Event]:
        self.reads.append((after, through))
        for _ in range(3):
            await asyncio.sleep(0)
        if self.away:
            raise DatabaseUnavailable("away")
        return self.events[after:through]


def pages_of(log: SlowLog, *, limit_bytes: int = 1024 * 1024) -> SharedPages:
    return SharedPages(cast(EventLog, log), page_events=10, limit_bytes=limit_bytes)


def seqs(events: list[Event]) -> list[int]:
    return [event.seq for event in events]


async def test_readers_at_different_places_share_one_read() -> None:
    log = SlowLog(25)
    pages = pages_of(log)
    found = await asyncio.gather(*(pages.read_after(1, 0, seq, 25) for seq in (0, 3, 9, 10, 24)))
    assert [(seqs(events)[0], seqs(events)[-1]) for events in found] == [
        (1, 10),
        (4, 10),
        (10, 10),
        (11, 20),
        (25, 25),
    ]
    assert log.reads == [(0, 10), (10, 20), (20, 25)]


async def test_a_page_that_grew_and_one_of_another_log_are_read_anew() -> None:
    log = SlowLog(25)
    pages = pages_of(log)
    assert seqs(await pages.read_after(1, 0, 20, 22)) == [21, 22]
    assert seqs(await pages.read_after(1, 0, 20, 25)) == [21, 22, 23, 24, 25]
    await pages.read_after(2, 0, 20, 25)
    await pages.read_after(2, 0, 20, 25)
    assert log.reads == [(20, 22), (20, 25), (20, 25)]


async def test_the_oldest_pages_go_when_there_are_too_many() -> None:
    log = SlowLog(40)
    pages = pages_of(log, limit_bytes=25 * log.events[0].memory_bytes)
    for seq in (0, 10, 0, 20, 0, 10):
        await pages.read_after(1, 0, seq, 40)
    assert log.reads == [(0, 10), (10, 20), (20, 30), (10, 20)]


async def test_a_reader_who_goes_does_not_take_the_page_with_it() -> None:
    log = SlowLog(10)
    pages = pages_of(log)
    first = asyncio.create_task(pages.read_after(1, 0, 0, 10))
    second = asyncio.create_task(pages.read_after(1, 0, 5, 10))
    await asyncio.sleep(0)
    first.cancel()
    assert seqs(await second) == [6, 7, 8, 9, 10]
    assert log.reads == [(0, 10)]


async def test_a_failure_reaches_all_who_wait_and_is_not_remembered() -> None:
    log = SlowLog(10)
    pages = pages_of(log)
    log.away = True
    failures = await asyncio.gather(
        *(pages.read_after(1, 0, 0, 10) for _ in range(2)), return_exceptions=True
    )
    assert [type(failure) for failure in failures] == [DatabaseUnavailable] * 2
    log.away = False
    assert len(await pages.read_after(1, 0, 0, 10)) == 10


async def test_a_failure_that_nobody_waits_for_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    log = SlowLog(10)
    log.away = True
    reader = asyncio.create_task(pages_of(log).read_after(1, 0, 0, 10))
    await asyncio.sleep(0)
    reader.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert reader.cancelled()
    assert not caplog.records
