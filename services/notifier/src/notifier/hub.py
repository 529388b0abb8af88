"""The hub: takes the events of the log in order and hands each to the live connections that want it.

Everything here runs without waiting: a connection that cannot take its events holds up nobody.
"""

import asyncio
from collections.abc import Callable, Iterable

from notifier.events import Event
from notifier.filters import Audience
from notifier.metrics import DELIVERED, MESSAGES
from notifier.protocol import MAX_MESSAGE_BYTES, events_message, text_frame
from notifier.topics import Subscriber, Topic, TopicIndex
from notifier.window import Window
from shared.cursors import Position, encode_cursor


class Hub:
    """What was handed out so far (`position`), the recent events, and who listens."""

    def __init__(
        self, partitions: int, window_bytes: int, encode: Callable[[Position], str] = encode_cursor
    ) -> None:
        """`encode` makes cursors of positions."""
        self.window = Window(partitions, window_bytes)
        self.position: list[int] = []
        """Newest event handed out, by partition. Empty until `start`."""
        self.generation = 0
        """Grows when the log is replaced: a reader of an earlier generation must begin anew."""
        self._encode = encode
        self._epoch = ""
        self._cursor: str | None = None
        self._topics = TopicIndex()
        self._waiting: set[Topic] = set()
        self._waiting_bytes = 0
        self._progress = asyncio.Event()

    @property
    def started(self) -> bool:
        """Whether a position is known, so that clients can be served."""
        return bool(self.position)

    @property
    def cursor(self) -> str:
        """The position as a cursor."""
        if self._cursor is None:
            self._cursor = self.cursor_of(self.position)
        return self._cursor

    @property
    def head(self) -> Position:
        """The position with its epoch."""
        return Position(self._epoch, tuple(self.position))

    def cursor_of(self, seqs: Iterable[int]) -> str:
        """The cursor of another position in the same log."""
        return self._encode(Position(self._epoch, tuple(seqs)))

    def start(self, position: Position) -> None:
        """Begins at a position. If there was one before, the log was replaced: every live
        connection is told.
        """
        self._epoch, self.position = position.epoch, list(position.seqs)
        self._cursor = None
        self.generation += 1
        self.window.clear()
        self._waiting.clear()
        self._waiting_bytes = 0
        for topic in self._topics:
            topic.pending.clear()
            for subscriber in topic.subscribers:
                subscriber.log_replaced()
        self._announce_progress()

    def publish(self, events: Iterable[Event]) -> None:
        """Takes the events that follow the position, in the order of their partition. They leave with
        the next `flush`, which must come before the caller waits for anything.
        """
        for event in events:
            self.position[event.partition] = event.seq
            self._cursor = None
            self.window.add(event)
            self._waiting_bytes += len(event.full)
            for topic in self._topics.interested(event):
                topic.pending.append(event.encoded(with_customer=topic.with_customer))
                self._waiting.add(topic)
            if self._waiting_bytes >= MAX_MESSAGE_BYTES:
                self.flush()

    def flush(self) -> None:
        """Sends what waits: to each connection one message, whose cursor is the position now."""
        waiting, self._waiting = self._waiting, set()  # a connection that ends meanwhile changes the set
        self._waiting_bytes = 0
        for topic in waiting:
            frame = text_frame(events_message(topic.pending, self.cursor))
            sinks = topic.sinks
            MESSAGES.inc(len(sinks))
            DELIVERED.inc(len(sinks) * len(topic.pending))
            topic.pending = []
            # A hundred thousand times a second: nothing is asked here that a connection tells by itself.
            for sink in sinks:
                sink.write(frame)
        self._announce_progress()

    def join(self, subscriber: Subscriber, audience: Audience) -> Topic:
        """Makes a connection live. It must have been given everything up to `position`."""
        self.flush()
        topic = self._topics.topic(audience)
        topic.enter(subscriber)
        return topic

    def leave(self, subscriber: Subscriber, topic: Topic) -> None:
        """The reverse of `join`."""
        topic.leave(subscriber)
        if topic.is_empty:
            self._waiting.discard(topic)
            self._topics.discard(topic)

    async def progress(self) -> None:
        """Returns after the next flush."""
        await self._progress.wait()

    def _announce_progress(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()
