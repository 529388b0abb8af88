"""What every release has written can be read by this one (tests/data/releases).

A test here fails after a change of a model, of a reader or of an enumeration: read what there is, too
(docs/decisions/0024-formats-of-what-is-written.md). Data of a new kind is made by the release that first
writes it; until then it is in `SINCE_THE_LAST_RELEASE`.
"""

from collections.abc import Callable, Iterator
from typing import Any, get_args

import orjson
import pytest
from pydantic import TypeAdapter

from release_corpus import MESSAGE_KINDS, Corpus, Message, read_corpora
from tracking_notifier.stream.events import decode_events, event_of
from tracking_order_state.domain.partition import PartitionPosition
from tracking_shared.contracts import documents as models
from tracking_shared.contracts.commands import (
    AnyCommand,
    ReleaseOrder,
    UndecodableMessage,
    decode_command,
    decode_commands,
    decode_replies,
)
from tracking_shared.contracts.documents import applied_outcome, event_type, project
from tracking_shared.contracts.formats import DOCUMENTS, upcast
from tracking_shared.contracts.held import command_of, held_outcome
from tracking_shared.contracts.messages import cloud_event, history_item, order_view
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.storage.audit_trail import audit_view
from tracking_shared.storage.database import INDEXES
from tracking_shared.storage.erasures import erasure_view

SINCE_THE_LAST_RELEASE: set[str] = {
    "collection archived_orders",
    "collection archivings",
    "collection order_homes",
    "collection webhook_attempts",
    "collection webhook_secrets",
    "collection webhook_senders",
    "collection webhooks",
    "partitions.added_in",
    "partitions.archived",
    "partitions.archived_until",
    "partitions.generation",
    "partitions.log_start",
}
"""Kinds and fields that no release has written yet, as the tests below name them."""

MODELS: dict[str, Any] = {
    "audit": models.AuditDocument,
    "erasure_progress": models.ErasureProgressDocument,
    "erasures": models.ErasureDocument,
    "held": models.HeldDocument,
    "order_events": models.EventDocument,
    "order_search": models.SearchDocument,
    "orders": models.OrderDocument,
    "parked": models.ParkedDocument,
    "partitions": models.PartitionDocument,
    "revocations": models.RevocationDocument,
    "unknown_orders": models.UnknownOrdersDocument,
    "updates": models.UpdateDocument,
}
UNTYPED = {"settings", "search_progress"}

CORPORA = read_corpora()


def read_event(event: Any) -> None:
    assert project(event)["_id"] == event["order_id"]
    assert applied_outcome(event)["version"] == event["version"]
    for with_customer in (True, False):
        assert history_item(event, with_customer=with_customer)
    assert orjson.dumps(cloud_event(event, DEFAULT_WORKFLOW))
    assert event_of(event, DEFAULT_WORKFLOW).seq == event["seq"]


READERS: dict[str, Callable[[Any], object]] = {
    "audit": audit_view,
    "erasures": erasure_view,
    "held": lambda held: (command_of(held), held_outcome(held)),
    "order_events": read_event,
    "orders": lambda order: order_view(order, DEFAULT_WORKFLOW, with_customer=True),
    "parked": lambda parked: decode_command(parked["command"]),
    "partitions": PartitionPosition.decode,
}
"""What the services make of a document, beside its fields."""


def documents() -> Iterator[Any]:
    for corpus in CORPORA:
        for collection, found in corpus.documents.items():
            yield pytest.param(collection, found, id=f"{corpus.release}-{collection}")


def messages() -> Iterator[Any]:
    for corpus in CORPORA:
        for kind, found in corpus.messages.items():
            yield pytest.param(kind, found, corpus, id=f"{corpus.release}-{kind}")


@pytest.mark.parametrize(("collection", "found"), list(documents()))
def test_every_document_is_read(collection: str, found: list[dict[str, Any]]) -> None:
    if collection in UNTYPED:
        return
    form = DOCUMENTS.get(collection)
    model = TypeAdapter(MODELS[collection])
    for document in found:
        current = upcast(form, document) if form else document
        assert model.validate_python(current)
        READERS.get(collection, bool)(current)


@pytest.mark.parametrize(("kind", "found", "corpus"), list(messages()))
def test_every_message_is_read(kind: str, found: list[Message], corpus: Corpus) -> None:
    for message in found:
        if kind == "commands":
            assert decode_commands(message.body, message.headers)
        elif kind == "events":
            assert decode_events(message.body, DEFAULT_WORKFLOW, message.headers)
        elif kind == "replies":
            assert decode_replies(message.body, message.headers)
        else:
            with pytest.raises(UndecodableMessage):
                decode_commands(message.body, message.headers)


def test_every_kind_of_document_and_message_has_an_example() -> None:
    written = {
        *(f"collection {name}" for name in INDEXES),
        *(f"message {kind}" for kind in MESSAGE_KINDS),
        *(f"event {name}" for name in get_args(models.EventType)),
        *(f"command {kind.model_fields['op'].default}" for kind in (*get_args(AnyCommand), ReleaseOrder)),
        *(f"reply {outcome}" for outcome in ("applied", "rejected", "held", "null")),
    }
    assert written - SINCE_THE_LAST_RELEASE == set(examples()) & written


def examples() -> Iterator[str]:
    for corpus in CORPORA:
        yield from (f"collection {name}" for name, found in corpus.documents.items() if found)
        yield from (f"message {kind}" for kind, found in corpus.messages.items() if found)
        yield from (f"event {event_type(event)}" for event in corpus.documents["order_events"])  # type: ignore[arg-type]
        for message in corpus.messages["commands"]:
            yield from (f"command {command['op']}" for command in orjson.loads(message.body))
        for message in corpus.messages["replies"]:
            for reply in orjson.loads(message.body):
                yield from (f"reply {one['outcome'] if one else 'null'}" for one in reply["outcomes"])


@pytest.mark.parametrize("collection", sorted(MODELS))
def test_every_field_has_an_example(collection: str) -> None:
    fields = {f"{collection}.{name}" for name in MODELS[collection].__annotations__}
    found = {
        f"{collection}.{name}"
        for corpus in CORPORA
        for document in corpus.documents.get(collection, ())
        for name in document
    }
    assert fields - found <= SINCE_THE_LAST_RELEASE
