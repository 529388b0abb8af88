"""Composition root of ingest."""

import asyncio
from contextlib import suppress

from fastapi import FastAPI

from tracking_ingest.api.ingest_openapi import ingest_document
from tracking_ingest.api.submission_routes import Ingest, add_routes
from tracking_ingest.settings import IngestSettings
from tracking_ingest.submission.dispatcher import Dispatcher
from tracking_ingest.submission.routing import StoredRouting, follow_routing
from tracking_shared.api_docs.api_pages import add_api_pages
from tracking_shared.auth.revocations import RevocationList
from tracking_shared.auth.tokens import TokenVerifier
from tracking_shared.contracts.workflow import load_workflow
from tracking_shared.http.health import Check
from tracking_shared.http.service_app import install_plumbing, service_app
from tracking_shared.messaging.reconnection import serve_connections
from tracking_shared.serving import background, serve_http
from tracking_shared.storage.database import Database, DatabaseUnavailable, open_database, retrying_database
from tracking_shared.telemetry.spans import Spans
from tracking_shared.telemetry.tracing import spans_of

CHECK_SECONDS = 1
"""The interval at which the partition count is checked until the database is set up."""


async def serve(settings: IngestSettings) -> None:
    """Runs ingest until a stop signal.

    Raises:
        PartitionCountMismatch: the database was set up with another partition count.
    """
    with spans_of("tracking-ingest") as spans:
        await _serve(settings, spans)


async def _serve(settings: IngestSettings, spans: Spans | None) -> None:
    workflow = load_workflow(settings.workflow_file)
    verifier = TokenVerifier(settings)
    async with open_database(settings.mongodb_url, settings.mongodb_database) as database:
        stored = StoredRouting(database)
        dispatcher = Dispatcher(settings.partitions, spans, stored)
        revocations = RevocationList(database)
        ingest = Ingest(dispatcher, verifier, revocations, workflow, database, settings.public_query_url)
        app = create_app(settings, ingest, spans)
        async with background(
            _serve_broker(settings, database, revocations, stored, dispatcher),
            _keep_to_partition_count(settings, database),
            follow_routing(stored, dispatcher.reroute),
            revocations.follow(),
            verifier.ring.follow(),
        ):
            first_connection = dispatcher.first_connection
            await serve_http(app, settings, settings.ingest_port, starts_with=first_connection)


def create_app(settings: IngestSettings, ingest: Ingest, spans: Spans | None = None) -> FastAPI:
    """Makes the application over its parts."""
    app = service_app("ingest", "Reports what happens to orders")
    add_routes(app, ingest)
    add_api_pages(app, lambda: ingest_document(app, ingest.workflow))
    checks: dict[str, Check] = {"broker": ingest.dispatcher.check, "keys": ingest.verifier.ring.check}
    install_plumbing(app, settings, lambda: checks, spans)
    return app


async def _serve_broker(
    settings: IngestSettings,
    database: Database,
    revocations: RevocationList,
    stored: StoredRouting,
    dispatcher: Dispatcher,
) -> None:
    # The partition count must be right before the first command is sent anywhere, and the revocations known.
    await database.wait_for_partition_count(settings.partitions)
    async for attempt in retrying_database():
        with attempt:
            await revocations.look()
            if (routing := await stored.read()) is not None:
                dispatcher.reroute(routing)
    await serve_connections(settings.amqp_url, "ingest", dispatcher.serve, dispatcher.lost)


async def _keep_to_partition_count(settings: IngestSettings, database: Database) -> None:
    # The first order-state to start stores it, and that may be later than we begin to take updates: with
    # another count nobody would ever decide them.
    is_stored = False
    while not is_stored:
        await asyncio.sleep(CHECK_SECONDS)
        with suppress(DatabaseUnavailable):
            is_stored = await database.check_partition_count(settings.partitions)
