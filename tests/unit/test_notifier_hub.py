"""The hub: every live connection gets what its audience wants, once, in order, in few messages."""

import orjson
from hypothesis import given
from hypothesis import strategies as st
from notifier_samples import ORDERS, History, audiences, changes

from tracking_notifier.hub import Hub, Sink, SubscriberGroup
from tracking_notifier.stream.filters import Audience, Filter
from tracking_notifier.stream.stream_messages import MAX_STREAM_MESSAGE_BYTES
from tracking_shared.contracts.access import Grant
from tracking_shared.contracts.cursors import Position, decode_cursor

EVERYTHING = Audience(Grant(merchants=frozenset("*")), Filter())


class Listener:
    """A connection that takes whatever it is given; it may leave while it is."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.sent_away = 0
        self.leaves_after: int | None = None
        self.membership: tuple[Hub, SubscriberGroup] | None = None
        self.sink: Sink = self

    def write(self, frame: bytes, /) -> None:
        self.frames.append(frame)
        if self.leaves_after == len(self.frames):
            self.leave()

    def on_log_replaced(self) -> None:
        self.sent_away += 1
        self.leave()

    def join(self, hub: Hub, audience: Audience) -> None:
        self.membership = (hub, hub.subscribe(self, audience))

    def leave(self) -> None:
        assert self.membership is not None
        hub, group = self.membership
        hub.unsubscribe(self, group)

    @property
    def messages(self) -> list[dict[str, object]]:
        return [orjson.loads(frame[frame.index(b'{"type"') :]) for frame in self.frames]

    @property
    def got(self) -> list[str]:
        return [event["id"] for message in self.messages for event in message["events"]]  # type: ignore[attr-defined]


def started_hub(partitions: int = 2) -> Hub:
    hub = Hub(partitions, recent_bytes=1024 * 1024)
    hub.start(Position("abc", (0,) * partitions))
    return hub


@given(st.lists(st.tuples(st.lists(changes, max_size=5), st.booleans(), audiences), max_size=15))
def test_each_gets_what_it_wants_from_its_join_on(
    steps: list[tuple[list[tuple[str, str]], bool, Audience]],
) -> None:
    hub, history = started_hub(), History()
    expected: list[tuple[Audience, Listener, list[str]]] = []
    for batch, flushed, audience in steps:
        listener = Listener()
        listener.join(hub, audience)
        expected.append((audience, listener, []))
        events = [history.apply(*change) for change in batch]
        hub.publish(events)
        for event in events:
            for its_audience, _, wanted in expected:
                if its_audience.matches(event):
                    wanted.append(f"{event.order_id}:{event.version}")
        if flushed:
            hub.flush()
    hub.flush()
    for _, listener, wanted in expected:
        assert listener.got == wanted
    assert tuple(hub.seqs) == history.seqs


def test_what_waits_together_travels_together_with_the_last_position() -> None:
    hub, history, listener = started_hub(), History(), Listener()
    listener.join(hub, EVERYTHING)
    hub.publish([history.apply(order, "created") for order in ORDERS])
    assert listener.frames == []
    hub.flush()
    assert len(listener.frames) == 1
    assert decode_cursor(str(listener.messages[0]["cursor"])) == Position("abc", history.seqs)


def test_a_long_flush_is_cut_and_each_cursor_says_what_was_sent() -> None:
    hub, history, listener = started_hub(), History(), Listener()
    listener.join(hub, EVERYTHING)
    hub.publish([history.apply(ORDERS[number % 8], "in_transit") for number in range(1000)])
    hub.flush()
    assert len(listener.frames) > 1
    sent = 0
    for frame, message in zip(listener.frames, listener.messages, strict=True):
        assert len(frame) < MAX_STREAM_MESSAGE_BYTES + 4096
        sent += len(message["events"])  # type: ignore[arg-type]
        assert sum(decode_cursor(str(message["cursor"])).seqs) == sent
    assert sent == 1000


def test_connections_of_one_audience_share_the_very_same_bytes() -> None:
    hub, history = started_hub(), History()
    listeners = [Listener() for _ in range(3)]
    for listener in listeners:
        listener.join(hub, EVERYTHING)
    hub.publish([history.apply("o-1", "created")])
    hub.flush()
    assert len({id(listener.frames[0]) for listener in listeners}) == 1


def test_a_connection_may_leave_while_it_is_served() -> None:
    hub, history = started_hub(), History()
    listeners = [Listener() for _ in range(3)]
    for listener in listeners:
        listener.join(hub, EVERYTHING)
        listener.leaves_after = 1
    for status in ("created", "picked_up"):
        hub.publish([history.apply("o-1", status)])
        hub.flush()
    assert [len(listener.frames) for listener in listeners] == [1, 1, 1]


class Detour:
    """Takes the frames of a listener while it is in the way; after some of them it is no more."""

    def __init__(self, listener: Listener, group: SubscriberGroup, leaves_after: int) -> None:
        self.listener = listener
        self.group = group
        self.taken = 0
        self.leaves_after = leaves_after

    def write(self, frame: bytes, /) -> None:
        self.taken += 1
        self.listener.write(frame)
        if self.taken == self.leaves_after:
            self.listener.sink = self.listener
            self.group.add(self.listener)


def test_a_connection_whose_sink_changes_gets_everything_once_and_in_order() -> None:
    hub, history = started_hub(), History()
    changing, other = Listener(), Listener()
    for listener in (changing, other):
        listener.join(hub, EVERYTHING)
    assert changing.membership is not None
    group = changing.membership[1]
    detour = Detour(changing, group, leaves_after=3)
    for number in range(8):
        if number == 2:
            changing.sink = detour
            group.add(changing)
        hub.publish([history.apply("o-1", "in_transit")])
        hub.flush()
    assert detour.taken == 3
    assert changing.got == other.got == [f"o-1:{version}" for version in range(1, 9)]


def test_a_replaced_log_sends_every_connection_away() -> None:
    hub, history, listener = started_hub(), History(), Listener()
    listener.join(hub, EVERYTHING)
    hub.publish([history.apply("o-1", "created")])
    generation = hub.generation
    hub.start(Position("xyz", (7, 7)))
    assert listener.sent_away == 1
    assert hub.generation > generation
    assert hub.recent_events.after(0, 0, 10) is None
    hub.flush()
    assert listener.frames == []
