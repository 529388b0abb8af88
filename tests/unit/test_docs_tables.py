"""The tables of the documentation against the code: whoever changes one is told to change the other."""

import importlib.util
import re
import types
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints

import jwt
import pytest
import yaml
from pages import ROOT, read, section, tables
from prometheus_client import REGISTRY
from pydantic.fields import FieldInfo
from typing_extensions import is_typeddict

from tracking.devstack.tokens import mint_token
from tracking_client.live_orders import FINAL_CLOSE_CODES
from tracking_ingest import metrics as ingest_metrics
from tracking_ingest.api.bodies import MAX_BATCH_BYTES, MAX_OPERATIONS
from tracking_ingest.settings import IngestSettings
from tracking_ingest.submission.pipeline import MAX_WAITING_BYTES
from tracking_notifier import metrics as notifier_metrics
from tracking_notifier.log import shared_pages
from tracking_notifier.session import admission
from tracking_notifier.settings import NotifierSettings
from tracking_notifier.stream import stream_messages as protocol
from tracking_order_state import metrics as order_state_metrics
from tracking_order_state.adapters.outcomes import MAX_UNKNOWN_PER_SENDER, UNKNOWN_LIFE
from tracking_order_state.adapters.ownership import FIRST_CLAIM_SECONDS
from tracking_order_state.domain.holding import MAX_HELD_PER_ORDER, MAX_WAITING_PER_SENDER
from tracking_order_state.domain.parking import MAX_PARKED_PER_ORDER
from tracking_order_state.processing.retries import MAX_FAILURES
from tracking_order_state.processing.subscriptions import PREFETCH_MESSAGES
from tracking_order_state.processing.worker import (
    BATCH_BYTES,
    MAX_STALLED_RETRY_SECONDS,
    STALLED_RETRY_SECONDS,
)
from tracking_order_state.settings import OrderStateSettings
from tracking_query import metrics as query_metrics
from tracking_query.settings import QuerySettings
from tracking_shared.auth.revocations import LOOK_SECONDS, MAX_REVOCATIONS
from tracking_shared.contracts.commands import MAX_COMMANDS_MESSAGE_BYTES, MAX_COMMANDS_PER_MESSAGE
from tracking_shared.contracts.documents import (
    ArchivedOrderDocument,
    ArchivingDocument,
    AuditDocument,
    ErasureDocument,
    ErasureProgressDocument,
    EventDocument,
    HeldDocument,
    Metadata,
    OrderDocument,
    ParkedDocument,
    PartitionDocument,
    RevocationDocument,
    SearchDocument,
    UnknownOrdersDocument,
    UpdateDocument,
)
from tracking_shared.contracts.webhooks import (
    AttemptDocument,
    SenderDocument,
    WebhookDocument,
    WebhookSecretDocument,
)
from tracking_shared.contracts.workflow import MAX_HOLD_EARLY_SECONDS
from tracking_shared.errors import SettingsError
from tracking_shared.http.json_bodies import MAX_BODY_BYTES
from tracking_shared.messaging.topology import (
    DEAD_MAX_MESSAGES,
    DELIVERY_LIMIT,
    QUEUE_MAX_BYTES,
    QUEUE_MAX_MESSAGES,
)
from tracking_shared.settings import Settings, check_token_settings
from tracking_shared.storage.database import INDEXES, OPERATION_TIMEOUT_MS, UPDATES_TTL_SECONDS
from tracking_shared.storage.embedded_database import ANY_TIME
from tracking_shared.telemetry import metrics as shared_metrics
from tracking_webhooks import metrics as webhooks_metrics
from tracking_webhooks.settings import WebhooksSettings

SERVICES: dict[str, type[Settings]] = {
    "ingest": IngestSettings,
    "query": QuerySettings,
    "notifier": NotifierSettings,
    "order-state": OrderStateSettings,
    "webhooks": WebhooksSettings,
}

DOCUMENTS = {
    "orders": OrderDocument,
    "order_events": EventDocument,
    "order_search": SearchDocument,
    "updates": UpdateDocument,
    "unknown_orders": UnknownOrdersDocument,
    "parked": ParkedDocument,
    "held": HeldDocument,
    "partitions": PartitionDocument,
    "revocations": RevocationDocument,
    "erasures": ErasureDocument,
    "erasure_progress": ErasureProgressDocument,
    "archived_orders": ArchivedOrderDocument,
    "archivings": ArchivingDocument,
    "audit": AuditDocument,
    "webhooks": WebhookDocument,
    "webhook_secrets": WebhookSecretDocument,
    "webhook_attempts": AttemptDocument,
    "webhook_senders": SenderDocument,
}

MAX_PARKED_ORDERS = OrderStateSettings.model_fields["max_parked_orders"].default
KIB, MIB, GIB = 1024, 1024**2, 1024**3


def only_table(page: str, heading: str) -> list[dict[str, str]]:
    return tables(section(read(page), heading))[0]


def test_the_lifecycle_page_is_generated_from_the_tables() -> None:
    path = ROOT / "docs/lifecycle_diagram.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    page = read("docs/lifecycle.md")
    assert page == generator.with_workflows(page)


def test_every_variable_is_in_the_configuration_table() -> None:
    documented = {
        (row["variable"], row["services"], row["default"])
        for row in only_table("docs/operations.md", "## Configuration")
    }
    assert documented == set(variables())


def variables() -> Iterator[tuple[str, str, str]]:
    for name, field in Settings.model_fields.items():
        yield name.upper(), "all", default_of(name, field)
    for service, kind in SERVICES.items():
        for name in kind.model_fields.keys() - Settings.model_fields.keys():
            yield name.upper(), service, default_of(name, kind.model_fields[name])


def default_of(name: str, field: FieldInfo) -> str:
    if field.is_required() or name == "jwt_secret":
        return "required"
    if isinstance(field.default, float):
        return f"{field.default:g}"
    return "" if field.default is None else str(field.default)


def test_the_secret_is_required_though_it_has_a_default() -> None:
    with pytest.raises(SettingsError, match="JWT_SECRET"):
        check_token_settings(Settings(amqp_url="amqp://x", mongodb_url="mongodb://x", jwt_secret=""))


def test_every_variable_of_the_compose_file_is_in_its_table() -> None:
    found = re.findall(r"(?<!\$)\$\{(\w+):([-?])([^}]*)\}", read("docker-compose.yml"))
    expected = {(name, "required" if operator == "?" else default) for name, operator, default in found}
    rows = tables(section(read("docs/operations.md"), "## In containers"))[0]
    assert {(row["variable"], row["default"]) for row in rows} == expected


def test_every_metric_is_in_its_table() -> None:
    documented = {
        (row["metric"], row["type"], row["labels"]): row["of"]
        for row in only_table("docs/operations.md", "## Metrics")
    }
    assert documented == dict(metrics())


def metrics() -> Iterator[tuple[tuple[str, str, str], str]]:
    owners = {
        "ingest, query, order-state, webhooks": shared_metrics,
        "ingest": ingest_metrics,
        "order-state": order_state_metrics,
        "notifier": notifier_metrics,
        "query": query_metrics,
        "webhooks": webhooks_metrics,
    }
    for owner, module in owners.items():
        for metric in vars(module).values():
            if type(metric).__module__ == "prometheus_client.metrics":
                kind, name = metric._type, metric._name
                full_name = f"{name}_total" if kind == "counter" else name
                yield (full_name, kind, ", ".join(metric._labelnames)), owner


def test_no_metric_is_counted_elsewhere() -> None:
    registered = {family.name for family in REGISTRY.collect() if family.name.startswith("tracking_")}
    assert registered == {name.removesuffix("_total") for (name, _, _), _ in metrics()}


@pytest.mark.parametrize("collection", DOCUMENTS)
def test_every_field_of_a_document_is_in_its_table(collection: str) -> None:
    rows = only_table("docs/data-model.md", f"## Collection `{collection}`")
    assert [(row["field"], row["type"]) for row in rows] == list(fields(DOCUMENTS[collection]))


def fields(document: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, hint in get_type_hints(document, include_extras=True).items():
        yield f"{prefix}{name}", word_for(hint)
        for part in (hint, *get_args(hint)):
            if is_typeddict(part):
                yield from fields(part, f"{prefix}{name}.")


def word_for(hint: Any) -> str:
    words = {
        str: "string",
        int: "integer",
        bool: "boolean",
        datetime: "time",
        types.NoneType: "null",
        bytes: "bytes",
        float: "number",
    }
    if get_origin(hint) is NotRequired:
        return f"{word_for(get_args(hint)[0])}, optional"
    if get_origin(hint) is list:
        return "list"
    if get_origin(hint) is Literal:
        return "string"
    if get_origin(hint) in (types.UnionType, Union):
        return " or ".join(map(word_for, get_args(hint)))
    return "object" if hint == Metadata or is_typeddict(hint) else words[hint]


def test_every_index_is_in_its_table() -> None:
    documented = [
        (row["collection"], row["index"], row["keys"], row["options"])
        for row in only_table("docs/data-model.md", "## Indexes")
    ]
    assert documented == list(indexes())


def indexes() -> Iterator[tuple[str, str, str, str]]:
    for collection, models in INDEXES.items():
        for model in models:
            document = model.document
            keys = ", ".join(f"{key} {'↑' if way == 1 else '↓'}" for key, way in document["key"].items())
            yield collection, document["name"], keys, options_of(document)


def options_of(document: Any) -> str:
    options = [name for name in ("unique", "sparse") if document.get(name)]
    if "expireAfterSeconds" in document:
        days = document["expireAfterSeconds"] // 86400
        options.append(f"removed after {days} days" if days else "removed at that time")
    conditions = document.get("partialFilterExpression", {})
    options += [
        f"only where {key} exists"
        if value == ANY_TIME
        else f"only where {key} = {yaml.dump(value).split()[0]}"
        for key, value in conditions.items()
    ]
    return ", ".join(options)


def test_every_claim_of_a_token_is_in_its_table() -> None:
    token = mint_token("s" * 32, subject="ann", scope="orders:read", merchants=["acme"], orders=["o-1"])
    claims = jwt.decode(token, options={"verify_signature": False})
    assert {row["claim"] for row in only_table("docs/live-updates.md", "## Tokens")} == claims.keys()


def test_every_close_code_is_in_its_table() -> None:
    rows = only_table("docs/live-updates.md", "## Close codes and reconnection")
    ours = {value for name, value in vars(protocol).items() if name.isupper() and isinstance(value, int)}
    codes = {value for value in ours if 1000 <= value < 5000}
    assert {int(row["code"]) for row in rows} == codes | {1011}
    final = {int(row["code"]) for row in rows if "reconnect" not in row["what to do"]}
    assert final == FINAL_CLOSE_CODES


@pytest.mark.parametrize(
    ("page", "phrase"),
    [
        (
            "concurrency",
            f"{MAX_BODY_BYTES // KIB} KiB; {MAX_BATCH_BYTES // MIB} MiB and {MAX_OPERATIONS:,} op",
        ),
        ("concurrency", f"| {MAX_WAITING_BYTES // MIB} MiB | 503 |"),
        ("concurrency", f"| {MAX_COMMANDS_PER_MESSAGE} commands, {MAX_COMMANDS_MESSAGE_BYTES // KIB} KiB |"),
        ("concurrency", f"| {QUEUE_MAX_MESSAGES:,} messages, {QUEUE_MAX_BYTES // GIB} GiB |"),
        ("concurrency", f"| {PREFETCH_MESSAGES} messages | they wait in the queue |"),
        ("concurrency", f"| {BATCH_BYTES // KIB} KiB, give or take a message |"),
        ("concurrency", f"| `orders.dead` | {DEAD_MAX_MESSAGES:,} messages |"),
        ("concurrency", f"returned {DELIVERY_LIMIT} times"),
        ("concurrency", f"| parked updates of one order | {MAX_PARKED_PER_ORDER:,}, "),
        ("concurrency", f"| held updates of an order | {MAX_HELD_PER_ORDER} |"),
        ("concurrency", f"for orders that do not exist | {MAX_WAITING_PER_SENDER} |"),
        (
            "lifecycle",
            f"At most {MAX_HELD_PER_ORDER} updates of an order are held, and {MAX_WAITING_PER_SENDER}",
        ),
        ("lifecycle", f"1 to {MAX_HOLD_EARLY_SECONDS:,} seconds"),
        ("concurrency", f"tries again after {STALLED_RETRY_SECONDS:.0f} s, then twice as long each time"),
        (
            "concurrency",
            f"waits between attempts grow from {STALLED_RETRY_SECONDS:.0f}"
            f" to {MAX_STALLED_RETRY_SECONDS:.0f} s",
        ),
        ("concurrency", f"has failed {MAX_FAILURES} times"),
        ("concurrency", f"the first attempt gets {FIRST_CLAIM_SECONDS:.0f} s"),
        ("concurrency", f"all of it ends within {OPERATION_TIMEOUT_MS // 1000} s"),
        ("concurrency", f"| parked orders of a partition | {MAX_PARKED_ORDERS} (`MAX_PARKED_ORDERS`)"),
        ("concurrency", f"kept for {UPDATES_TTL_SECONDS // 86400} days"),
        ("operations", f"| {UPDATES_TTL_SECONDS // 86400} days |"),
        ("operations", f"| {UNKNOWN_LIFE.days} days; the newest {MAX_UNKNOWN_PER_SENDER} of a sender"),
        ("concurrency", f"orders that do not exist for {UNKNOWN_LIFE.days} days"),
        ("reports", f"newest {MAX_UNKNOWN_PER_SENDER} of a sender in each partition"),
        ("live-updates", f"at most {protocol.MAX_FILTER_VALUES} names"),
        ("concurrency", f"by clients that come back | {shared_pages.SHARED_PAGES_BYTES // MIB} MiB |"),
        ("concurrency", f"| revoked tokens | {MAX_REVOCATIONS:,} entries |"),
        (
            "operations",
            f"keys of one issuer; {MAX_REVOCATIONS:,} revocations",
        ),
        ("operations", f"looks every {LOOK_SECONDS:g} seconds"),
        ("operations", f"with 401, at most {LOOK_SECONDS:g} seconds later"),
        (
            "live-updates",
            f"{admission.RESYNCS_AT_ONCE} times at once and then once a minute",
        ),
        ("live-updates", f"with 4401 within {LOOK_SECONDS + 1:g} seconds"),
        ("live-updates", f"at most {protocol.MAX_CLIENT_MESSAGE_BYTES // KIB} KiB each"),
    ],
)
def test_a_bound_is_the_one_in_the_code(page: str, phrase: str) -> None:
    assert phrase in " ".join(read(f"docs/{page}.md").split())
