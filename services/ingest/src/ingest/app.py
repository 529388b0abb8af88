"""Composition root of ingest."""

import asyncio
from contextlib import suppress

from fastapi import FastAPI

from ingest.dispatcher import Dispatcher
from ingest.openapi import ingest_document
from ingest.routes import Ingest, add_routes
from ingest.settings import IngestSettings
from shared.api_pages import add_api_pages
from shared.broker import serve_connections
from shared.database import Database, DatabaseUnavailable, open_database, retrying_database
from shared.health import Check
from shared.http import NO_TELEMETRY, install_plumbing
from shared.revocation_list import RevocationList
from shared.serving import background, serve_http
from shared.tokens import TokenVerifier
from shared.workflow import load_workflow

LOOK_SECONDS = 1
"""How often to look whether the database is set up by now."""


async def serve(settings: IngestSettings) -> None:
    """Runs ingest until a stop signal.

    Raises:
        PartitionCountMismatch: the database was set up with another partition count.
    """
    workflow = load_workflow(settings.workflow_file)
    dispatcher = Dispatcher(settings.partitions)
    verifier = TokenVerifier(settings)
    async with open_database(settings.mongodb_url, settings.mongodb_database) as database:
        revocations = RevocationList(database)
        ingest = Ingest(dispatcher, verifier, revocations, workflow, database, settings.public_query_url)
        app = create_app(settings, ingest)
        async with background(
            _serve_broker(settings, database, revocations, dispatcher),
            _keep_to_partition_count(settings, database),
            revocations.follow(),
            verifier.ring.follow(),
        ):
            await serve_http(app, settings, settings.ingest_port)


def create_app(settings: IngestSettings, ingest: Ingest) -> FastAPI:
    """The application over its parts."""
    app = FastAPI(
        title="ingest",
        summary="Reports what happens to orders",
        version="1",
        openapi_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    add_api_pages(app, lambda: ingest_document(app, ingest.workflow))
    checks: dict[str, Check] = {"broker": ingest.dispatcher.check, "keys": ingest.verifier.ring.check}
    add_routes(app, ingest)
    install_plumbing(app, settings, lambda: checks)
    return app


async def _serve_broker(
    settings: IngestSettings, database: Database, revocations: RevocationList, dispatcher: Dispatcher
) -> None:
    # The partition count must be right before the first command is sent anywhere, and the revocations known.
    await database.wait_for_partition_count(settings.partitions)
    async for attempt in retrying_database():
        with attempt:
            await revocations.look()
    await serve_connections(settings.amqp_url, "ingest", dispatcher.serve, dispatcher.lost)


async def _keep_to_partition_count(settings: IngestSettings, database: Database) -> None:
    # The first order-state to start stores it, and that may be later than we begin to take updates: with
    # another count nobody would ever decide them.
    is_stored = False
    while not is_stored:
        await asyncio.sleep(LOOK_SECONDS)
        with suppress(DatabaseUnavailable):
            is_stored = await database.check_partition_count(settings.partitions)
