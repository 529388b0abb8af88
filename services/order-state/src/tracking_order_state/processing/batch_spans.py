"""The spans of a batch: in the trace of each sampled update one for its decision and one for the publication
of its event; and one of the batch itself, in a trace of its own, since it works for many. They link to each
other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter, time_ns

from tracking_order_state.adapters.result_publisher import ResultPublisher
from tracking_order_state.processing.stages import CommittedBatch
from tracking_shared.contracts.commands import AnyCommand, Outcome, ReleaseOrder
from tracking_shared.messaging.consumer import Delivery
from tracking_shared.messaging.topology import (
    COMMANDS_EXCHANGE,
    EVENTS_EXCHANGE,
    partition_queue_name,
    routing_key,
)
from tracking_shared.telemetry.spans import (
    SpanContext,
    Spans,
    contexts_in,
    first_links,
    messaging,
    new_trace,
    since_ns,
)

Key = tuple[str, str]
"""Order id and update id."""


def spans_that_sent(
    delivery: Delivery, commands: Sequence[AnyCommand | ReleaseOrder]
) -> dict[Key, SpanContext]:
    """Those of the commands of a message that are sampled."""
    sent = contexts_in(delivery.headers)
    return {
        (command.order_id, command.update_id): sent[number]
        for number, command in enumerate(commands)
        if number in sent and not isinstance(command, ReleaseOrder)
    }


@dataclass(frozen=True, slots=True)
class BatchSpans:
    """The spans of one batch with sampled updates in it."""

    spans: Spans
    batch: CommittedBatch
    process: dict[Key, SpanContext]
    """The spans of the decisions."""
    itself: SpanContext = field(default_factory=new_trace)

    @classmethod
    def of(cls, spans: Spans, batch: CommittedBatch) -> "BatchSpans | None":
        """None where nothing is sampled."""
        process = {key: sent.child() for part in batch.received.parts for key, sent in part.traced.items()}
        return cls(spans, batch, process) if process else None

    async def publish_events(self, publisher: ResultPublisher) -> None:
        """Publishes the events; the span of each sampled one ends when it is handed to the connection.

        Raises:
            BrokerUnavailable: as `ResultPublisher.publish_events`.
        """
        events = self.batch.events()
        parents = {
            number: parent
            for number, event in enumerate(events)
            if (parent := self.process.get((event["order_id"], event["update_id"]))) is not None
        }
        contexts = {number: parent.child() for number, parent in parents.items()}
        start_ns = time_ns()
        await publisher.publish_events(events, contexts)
        end_ns = time_ns()
        for number, context in contexts.items():
            self.spans.record(
                f"publish {EVENTS_EXCHANGE}",
                "producer",
                context,
                parent=parents[number],
                start_ns=start_ns,
                end_ns=end_ns,
                attributes=messaging("publish", EVENTS_EXCHANGE),
            )

    def end(self) -> None:
        """Records the spans, once everything is acknowledged."""
        start_ns = since_ns(perf_counter() - self.batch.received.started)
        committed_ns = since_ns(perf_counter() - self.batch.committed)
        number = 0
        for part, result in zip(self.batch.received.parts, self.batch.results, strict=True):
            number += len(part.commands)
            destination = ":".join(
                (
                    COMMANDS_EXCHANGE,
                    routing_key(part.partition.number),
                    partition_queue_name(part.partition.number),
                )
            )
            for command, outcome in zip(part.commands, result.outcomes, strict=False):
                key = command.order_id, command.update_id
                if key in part.traced:
                    self.spans.record(
                        f"process {destination}",
                        "consumer",
                        self.process[key],
                        parent=part.traced[key],
                        start_ns=start_ns,
                        end_ns=committed_ns,
                        attributes=messaging("process", destination) | {"tracking.outcome": _name(outcome)},
                        links=[self.itself],
                    )
        self.spans.record(
            "batch",
            "internal",
            self.itself,
            parent=None,
            start_ns=start_ns,
            end_ns=time_ns(),
            attributes={"tracking.commands": number, "tracking.events": len(self.batch.events())},
            links=first_links(self.process.values()),
        )


def _name(outcome: Outcome | None) -> str:
    return "parked" if outcome is None else outcome["outcome"]
