"""How far a notifier is behind the log, as its metric says it."""

from typing import cast

from tracking_notifier.hub import Hub
from tracking_notifier.log.event_log import EventLog, LogCheck
from tracking_shared.contracts.cursors import Position


async def test_the_lag_is_what_the_log_had_and_the_hub_has_not() -> None:
    hub = Hub(2, 1024)
    watch = LogCheck(hub, cast(EventLog, None), 2)
    assert [watch.lag_events(0), watch.lag_events(1)] == [0, 0], "nothing is known"
    hub.start(Position("e", (5, 7)))
    watch.record(Position("e", (9, 6)))
    assert [watch.lag_events(0), watch.lag_events(1)] == [4, 0]
    hub.seqs[0] = 9
    assert watch.lag_events(0) == 0
