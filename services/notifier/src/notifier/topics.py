"""Topics: one per audience with live connections, indexed so that an event costs only those interested."""

from collections.abc import Iterator
from typing import Protocol

from notifier.events import Event
from notifier.filters import Audience, reach_of


class Sink(Protocol):
    """What takes the frames of a live connection."""

    def write(self, frame: bytes, /) -> None:
        """Sends a frame without waiting. It must not raise; the connection may leave its topic meanwhile."""


class Subscriber(Protocol):
    """A live connection."""

    @property
    def sink(self) -> Sink:
        """Where its frames go. When that changes, the connection enters its topic again."""

    def log_replaced(self) -> None:
        """The log is another one now; what was delivered cannot be continued."""


class Topic:
    """The live connections of one audience, and the events that wait for the next flush to them."""

    __slots__ = ("_in_turn", "_sinks", "audience", "pending", "with_customer")

    def __init__(self, audience: Audience) -> None:
        self.audience = audience
        self.with_customer = audience.with_customer
        self.pending: list[bytes] = []
        self._sinks: dict[Subscriber, Sink] = {}
        self._in_turn: tuple[Sink, ...] | None = ()

    @property
    def subscribers(self) -> tuple[Subscriber, ...]:
        """Who is in."""
        return tuple(self._sinks)

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """Where a frame goes. Kept: a thousand objects, each in a memory of its own, are slow to look up."""
        if self._in_turn is None:
            self._in_turn = tuple(self._sinks.values())
        return self._in_turn

    @property
    def is_empty(self) -> bool:
        """Whether nobody is in."""
        return not self._sinks

    def enter(self, subscriber: Subscriber) -> None:
        """Takes a connection in, or its new sink."""
        self._sinks[subscriber] = subscriber.sink
        self._in_turn = None

    def leave(self, subscriber: Subscriber) -> None:
        """The reverse of `enter`."""
        self._sinks.pop(subscriber, None)
        self._in_turn = None


class TopicIndex:
    """Finds the topics that may want an event by its order and its merchant."""

    def __init__(self) -> None:
        self._by_audience: dict[Audience, Topic] = {}
        self._by_order: dict[str, set[Topic]] = {}
        self._by_merchant: dict[str, set[Topic]] = {}
        self._unlimited: set[Topic] = set()

    def __iter__(self) -> Iterator[Topic]:
        return iter(tuple(self._by_audience.values()))

    def topic(self, audience: Audience) -> Topic:
        """The topic of an audience; made if there is none."""
        topic = self._by_audience.get(audience)
        if topic is None:
            topic = self._by_audience[audience] = Topic(audience)
            self._enter(topic)
        return topic

    def discard(self, topic: Topic) -> None:
        """Forgets a topic that nobody subscribes to any more."""
        del self._by_audience[topic.audience]
        index, names = self._entries(topic)
        if index is None:
            self._unlimited.discard(topic)
            return
        for name in names:
            index[name].discard(topic)
            if not index[name]:
                del index[name]

    def interested(self, event: Event) -> list[Topic]:
        """The topics whose audience wants the event."""
        candidates = (
            *self._by_order.get(event.order_id, ()),
            *self._by_merchant.get(event.merchant_id, ()),
            *self._unlimited,
        )
        return [topic for topic in candidates if topic.audience.wants(event)]

    def _enter(self, topic: Topic) -> None:
        index, names = self._entries(topic)
        if index is None:
            self._unlimited.add(topic)
            return
        for name in names:
            index.setdefault(name, set()).add(topic)

    def _entries(self, topic: Topic) -> tuple[dict[str, set[Topic]] | None, frozenset[str]]:
        # A topic stands in one index only, the narrower one, so that an event finds it once.
        reach = reach_of(topic.audience)
        if reach.order_ids is not None:
            return self._by_order, reach.order_ids
        if reach.merchant_ids is not None:
            return self._by_merchant, reach.merchant_ids
        return None, frozenset()
