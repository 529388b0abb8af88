"""The spans of sampled events in notifier: received from the broker, and sent to the sockets."""

from collections.abc import Sequence
from time import time_ns

from tracking_notifier.hub import Hub
from tracking_notifier.stream.events import Event
from tracking_shared.messaging.consumer import Delivery
from tracking_shared.messaging.topology import EVENTS_EXCHANGE
from tracking_shared.telemetry.spans import SpanContext, Spans, contexts_in, messaging

_ATTRIBUTES = messaging("process", EVENTS_EXCHANGE)


class PushSpans:
    """The spans of the events that leave with one flush of the hub."""

    def __init__(self, spans: Spans, hub: Hub) -> None:
        self._spans = spans
        self._hub = hub
        self._started: list[tuple[SpanContext, Event, int]] = []

    def begin(self, delivery: Delivery, events: Sequence[Event]) -> None:
        """Starts the spans of a message, before its events are published to the hub."""
        start_ns = time_ns()
        for number, sent in contexts_in(delivery.headers).items():
            if number < len(events):
                self._started.append((sent, events[number], start_ns))

    def end(self) -> None:
        """Ends all started spans, after the hub has written their events to the sockets."""
        end_ns = time_ns()
        for sent, event, start_ns in self._started:
            process = sent.child()
            self._spans.record(
                f"process {EVENTS_EXCHANGE}",
                "consumer",
                process,
                parent=sent,
                start_ns=start_ns,
                end_ns=end_ns,
                attributes=_ATTRIBUTES,
            )
            self._spans.record(
                "push /v1/stream",
                "internal",
                process.child(),
                parent=process,
                start_ns=start_ns,
                end_ns=end_ns,
                attributes={"tracking.connections": self._hub.audience_size(event)},
            )
        self._started.clear()
